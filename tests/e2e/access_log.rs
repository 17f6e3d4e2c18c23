//! Access logs: every format that is let through is one that a real Envoy takes, and it writes what was asked for.

use std::{fs, process::Command};

use serde_json::{Value, json};
use tailscale_gateway::gateways::{HEADER_OPERATORS, PLAIN_OPERATORS, TIME_OPERATORS, check_format};

use crate::{
    site::{Site, gateway, listener},
    support::{client, envoy::Version, wait::until},
};

/// Whether an Envoy takes a listener with these access logs, and what it says if not.
fn validate(version: Version, formats: &[String]) -> Result<(), String> {
    let logs: Vec<Value> = formats
        .iter()
        .map(|format| {
            json!({"name": "stdout", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                "log_format": {"text_format_source": {"inline_string": format}},
            }})
        })
        .collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "a",
        "route_config": {"name": "a"},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        }}],
        "access_log": logs,
    });
    let bootstrap = json!({"static_resources": {"listeners": [{
        "name": "a",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}},
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }]}});
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a file");
    fs::write(file.path(), bootstrap.to_string()).expect("the file can be written");
    let output = Command::new(version.program())
        .args(["--mode", "validate", "--log-level", "critical", "--config-path"])
        .arg(file.path())
        .output()
        .expect("Envoy starts");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(words) }
}

#[test]
fn every_operator_that_is_let_through_is_known_to_every_supported_envoy() {
    let plain = PLAIN_OPERATORS.iter().map(|name| format!("%{name}%"));
    let headers = HEADER_OPERATORS.iter().flat_map(|name| {
        [format!("%{name}(:a!#$&'*+-.^_`|~0?:B)%"), format!("%{name}(X):0%"), format!("%{name}(X):4294967295%")]
    });
    let times = TIME_OPERATORS
        .iter()
        .flat_map(|name| [format!("%{name}%"), format!("%{name}()%"), format!("%{name}(%Y %% %E4Y %3f %Q (ä %)%")]);
    let rest = ["%%", "100%%%PROTOCOL%", "", "a\nb"].map(str::to_owned);
    let formats: Vec<String> = plain.chain(headers).chain(times).chain(rest).collect();
    for format in &formats {
        assert_eq!(check_format(format), Ok(()), "{format}");
    }
    for version in Version::ALL {
        assert_eq!(validate(version, &formats), Ok(()));
        // And one that is not let through is noticed.
        assert!(validate(version, &["%NO_SUCH_THING%".to_owned()]).is_err());
    }
}

#[tokio::test]
async fn an_envoy_logs_requests_as_the_parameters_of_its_gateway_say() {
    let site = Site::start(&[]).await;
    let parameters = |log: &str| {
        let meta = "apiVersion: gateway.tailscale.com/v1alpha1\nkind: TailscaleGatewayParameters\n";
        format!("{meta}metadata: {{namespace: default, name: log}}\nspec: {{accessLog: {log}}}\n")
    };
    let web = gateway(&[listener("http", &site.http)]);
    let reference = "  infrastructure: {parametersRef: {group: gateway.tailscale.com, kind: TailscaleGatewayParameters, name: log}}";
    site.manifests.write("gateway.yaml", format!("{web}{reference}\n"));
    for (log, wanted) in [
        (r#"{type: Json, json: {path: "%REQ(:PATH)%", code: "%RESPONSE_CODE%"}}"#, r#"{"code":404,"path":"/json"}"#),
        (r#"{type: Text, text: "<%REQ(:PATH)% %RESPONSE_CODE%>\n"}"#, "</text 404>"),
    ] {
        site.manifests.write("parameters.yaml", parameters(log));
        let path = if wanted.starts_with('{') { "/json" } else { "/text" };
        // The listener changes some time after the file: requests go on until one is logged as wanted.
        until(wanted, async || {
            client::get(site.http.address(), path).send().await;
            let lines = site.envoy.process().lines();
            match lines.iter().any(|line| line == wanted) {
                true => Ok(()),
                false => Err(format!("{lines:#?}")),
            }
        })
        .await;
    }
}
