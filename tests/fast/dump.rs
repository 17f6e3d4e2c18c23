//! The JSON that people see.

use prost::{Message, Name};
use serde_json::json;
use tailscale_gateway::dump::{DumpError, to_json};
use tailscale_gateway_proto::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{DataSource, TransportSocket, data_source::Specifier, transport_socket},
        },
        extensions::transport_sockets::tls::v3::{
            CommonTlsContext, DownstreamTlsContext, GenericSecret, Secret, TlsCertificate, TlsSessionTicketKeys, secret,
        },
    },
    google::protobuf::{Any, Duration},
};

fn inline(bytes: &[u8]) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())), ..Default::default() })
}

fn certificate() -> TlsCertificate {
    TlsCertificate {
        certificate_chain: inline(b"public"),
        private_key: inline(b"private"),
        password: Some(DataSource { specifier: Some(Specifier::InlineString("pw".into())), ..Default::default() }),
        ..Default::default()
    }
}

fn any(message: &impl Name) -> Any {
    Any { type_url: <_ as TypeUrl>::url(message), value: message.encode_to_vec().into() }
}

trait TypeUrl {
    fn url(&self) -> String;
}

impl<T: Name> TypeUrl for T {
    fn url(&self) -> String {
        T::type_url()
    }
}

fn dump(message: &impl Name) -> serde_json::Value {
    to_json(&message.url(), &message.encode_to_vec()).unwrap()
}

#[test]
fn names_are_canonical_and_defaults_are_left_out() {
    let cluster = Cluster {
        name: "a".into(),
        connect_timeout: Some(Duration { seconds: 1, nanos: 500_000_000 }),
        ..Default::default()
    };
    assert_eq!(dump(&cluster), json!({"name": "a", "connectTimeout": "1.500s"}));
}

#[test]
fn anys_are_opened_at_every_depth() {
    let tls = DownstreamTlsContext { common_tls_context: Some(CommonTlsContext::default()), ..Default::default() };
    let socket =
        TransportSocket { name: "tls".into(), config_type: Some(transport_socket::ConfigType::TypedConfig(any(&tls))) };
    let cluster = Cluster { name: "a".into(), transport_socket: Some(socket), ..Default::default() };
    let json = dump(&cluster);
    assert_eq!(json["transportSocket"]["typedConfig"]["@type"], json!(DownstreamTlsContext::type_url()));
    assert_eq!(json["transportSocket"]["typedConfig"]["commonTlsContext"], json!({}));
}

#[test]
fn private_keys_and_passwords_are_redacted_and_certificates_are_not() {
    let secret = Secret { name: "s".into(), r#type: Some(secret::Type::TlsCertificate(certificate())) };
    assert_eq!(
        dump(&secret),
        json!({"name": "s", "tlsCertificate": {
            "certificateChain": {"inlineBytes": "cHVibGlj"},
            "privateKey": {"inlineBytes": "[redacted]"},
            "password": {"inlineString": "[redacted]"},
        }})
    );
}

#[test]
fn keys_inside_an_any_and_a_list_are_redacted() {
    let tls = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext { tls_certificates: vec![certificate()], ..Default::default() }),
        ..Default::default()
    };
    let socket =
        TransportSocket { name: "tls".into(), config_type: Some(transport_socket::ConfigType::TypedConfig(any(&tls))) };
    let cluster = Cluster { transport_socket: Some(socket), ..Default::default() };
    let json = dump(&cluster);
    let certificate = &json["transportSocket"]["typedConfig"]["commonTlsContext"]["tlsCertificates"][0];
    assert_eq!(certificate["privateKey"], json!({"inlineBytes": "[redacted]"}));
    assert_eq!(certificate["certificateChain"], json!({"inlineBytes": "cHVibGlj"}));
}

#[test]
fn ticket_keys_and_generic_secrets_are_redacted() {
    let keys = TlsSessionTicketKeys { keys: vec![inline(b"k").unwrap()] };
    let secret = Secret { name: "k".into(), r#type: Some(secret::Type::SessionTicketKeys(keys)) };
    assert_eq!(dump(&secret)["sessionTicketKeys"]["keys"], json!([{"inlineBytes": "[redacted]"}]));
    let generic = GenericSecret { secret: inline(b"g"), secrets: [("one".to_owned(), inline(b"1").unwrap())].into() };
    let secret = Secret { name: "g".into(), r#type: Some(secret::Type::GenericSecret(generic)) };
    assert_eq!(
        dump(&secret)["genericSecret"],
        json!({"secret": {"inlineBytes": "[redacted]"}, "secrets": {"one": {"inlineBytes": "[redacted]"}}})
    );
}

#[test]
fn what_can_not_be_shown_says_why() {
    assert!(matches!(to_json("type.googleapis.com/no.Such", &[]), Err(DumpError::UnknownType(_))));
    assert!(matches!(to_json(&Cluster::type_url(), &[0xff]), Err(DumpError::Malformed { .. })));
    let socket = TransportSocket {
        name: "odd".into(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(Any {
            type_url: "type.googleapis.com/no.Such".into(),
            value: Default::default(),
        })),
    };
    let cluster = Cluster { transport_socket: Some(socket), ..Default::default() };
    let error = to_json(&Cluster::type_url(), &cluster.encode_to_vec()).unwrap_err();
    assert!(matches!(&error, DumpError::Unprintable { reason, .. } if reason.contains("no.Such")), "{error}");
}
