//! Logs: structured lines on standard error, as text for people or as JSON for machines.
//!
//! Never decides what is logged: the places where things happen do. Standard output stays free for what a command prints.

use std::io::{IsTerminal, stderr};

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, layer::SubscriberExt, registry::LookupSpan};

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line; in colour on a terminal.
    #[default]
    Text,
    /// One JSON object per line, the event's fields at its top level.
    Json,
}

/// Why logging could not be started.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter is neither a level nor a list of `target=level`.
    #[error("log filter {filter:?}: {reason}; write a level (error, warn, info, debug, trace) or TARGET=LEVEL,…")]
    Filter {
        /// The filter as it was given.
        filter: String,
        /// What the parser says.
        reason: String,
    },
    /// Something else has already installed a subscriber.
    #[error("logging is already started")]
    Started,
}

/// Starts logging to standard error, for the rest of the process. `filter` is a level or a list in the syntax of
/// `RUST_LOG` (`tailscale_gateway::xds=debug,info`).
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let subscriber = subscriber(format, filter, stderr, stderr().is_terminal())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Started)
}

/// The subscriber that [`init`] installs, writing elsewhere.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
    colour: bool,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let directives = EnvFilter::try_new(filter)
        .map_err(|error| TelemetryError::Filter { filter: filter.to_owned(), reason: error.to_string() })?;
    // What a library says of each attempt of a watch is told by us once, with the kind and the remedy. A filter that names the
    // library gets what it asks for.
    let directives = match filter.contains("kube_runtime") {
        true => directives,
        false => directives.add_directive("kube_runtime::watcher=off".parse().expect("it is TARGET=LEVEL")),
    };
    let registry = tracing_subscriber::registry().with(directives);
    Ok(match format {
        LogFormat::Text => Box::new(registry.with(text(writer, colour))),
        LogFormat::Json => Box::new(registry.with(json(writer))),
    })
}

fn text<S, W>(writer: W, colour: bool) -> impl tracing_subscriber::Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colour)
}

fn json<S, W>(writer: W) -> impl tracing_subscriber::Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer)
}
