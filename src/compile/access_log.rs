//! Access logs as Envoy configures them: to standard output, where whoever runs the Envoy collects them.

use std::collections::BTreeMap;

use tailscale_gateway_proto::{
    envoy::{
        config::{
            accesslog::v3::{AccessLog, access_log::ConfigType},
            core::v3::{
                DataSource, SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format,
            },
        },
        extensions::access_loggers::stream::v3::{StdoutAccessLog, stdout_access_log::AccessLogFormat},
    },
    google::protobuf::{Struct, Value, value::Kind},
};

use super::listener::any;
use crate::{
    api::{AccessLogParameters, AccessLogType},
    gateways::DEFAULT_JSON,
};

/// The logger that parameters ask for, if they do. Their formats were checked.
pub(super) fn access_log(parameters: &AccessLogParameters) -> Option<AccessLog> {
    let format = match parameters.type_ {
        AccessLogType::None => return None,
        // Envoy has a default format of its own.
        AccessLogType::Text => parameters.text.as_ref().map(|text| {
            let specifier = Some(Specifier::InlineString(text.clone()));
            Format::TextFormatSource(DataSource { specifier, ..Default::default() })
        }),
        AccessLogType::Json => Some(Format::JsonFormat(match &parameters.json {
            Some(json) => members(json.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            None => members(DEFAULT_JSON.into_iter()),
        })),
    };
    let format = format.map(|format| {
        AccessLogFormat::LogFormat(SubstitutionFormatString { format: Some(format), ..Default::default() })
    });
    Some(AccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&StdoutAccessLog { access_log_format: format }))),
        ..Default::default()
    })
}

fn members<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> Struct {
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    Struct { fields: members.map(|(name, text)| (name.to_owned(), value(text))).collect::<BTreeMap<_, _>>() }
}
