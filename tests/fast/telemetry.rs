//! Log lines.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tailscale_gateway::telemetry::{LogFormat, subscriber};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, filter: &str) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = subscriber(format, filter, move || writer.clone(), false).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::warn!(gateway = "shop/web", names = 2, "refused");
        tracing::debug!("detail");
    });
    String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn text_is_one_line_with_its_fields() {
    let text = logged(LogFormat::Text, "info");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("WARN") && text.contains("refused gateway=\"shop/web\" names=2"), "{text}");
}

#[test]
fn json_has_the_fields_at_its_top_level() {
    let text = logged(LogFormat::Json, "info");
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(
        (&line["message"], &line["gateway"], &line["names"]),
        (&"refused".into(), &"shop/web".into(), &2.into())
    );
    assert_eq!(line["level"], "WARN");
}

#[test]
fn a_filter_by_target_is_obeyed() {
    assert_eq!(logged(LogFormat::Text, "error,fast=debug").lines().count(), 2);
    assert_eq!(logged(LogFormat::Text, "error"), "");
}

#[test]
fn what_a_library_says_of_each_attempt_is_left_out_unless_it_is_asked_for() {
    let logged = |filter: &str| {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(LogFormat::Text, filter, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "kube_runtime::watcher", "watch list error with 403");
            tracing::warn!(target: "kube_runtime::other", "something else");
        });
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap().lines().count()
    };
    assert_eq!((logged("info"), logged("debug"), logged("info,kube_runtime=warn"), logged("off")), (1, 1, 2, 0));
}

#[test]
fn a_filter_that_can_not_be_read_says_what_to_write() {
    let error = subscriber(LogFormat::Text, "fast=loud", io::sink, false).err().unwrap().to_string();
    assert!(error.contains("\"fast=loud\"") && error.contains("TARGET=LEVEL"), "{error}");
}
