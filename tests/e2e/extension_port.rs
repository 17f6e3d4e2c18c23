//! When the extension port opens: an Envoy Gateway waits for it, and must not be told anything before there is all to tell.

use std::fs;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tailscale_gateway::extension::{Hook, hooks::SERVICE};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    client,
    gateway::{Gateway, command},
    ports::Port,
    process::Process,
    wait::until,
};

#[tokio::test]
async fn nobody_is_answered_before_the_cluster_has_been_read() {
    let (extension, xds, admin) = (Port::lease(), Port::lease(), Port::lease());
    // Whoever connects waits for ever.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    let folder = TempDir::new().expect("a temporary folder can be made");
    let kubeconfig = folder.path().join("kubeconfig");
    let server = silent.local_addr().expect("it is bound");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: 'http://{server}'}}}}]\n\
         users: [{{name: u, user: {{token: none}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
    );
    fs::write(&kubeconfig, text).expect("the folder can be written");
    let mut serve = command(&["serve", "--source", "kubernetes", "--xds-insecure", "--namespace", "system"]);
    serve.arg("--kubeconfig").arg(&kubeconfig);
    for (flag, port) in [("--extension-listen", &extension), ("--xds-listen", &xds), ("--admin-listen", &admin)] {
        serve.arg(flag).arg(port.address().to_string());
    }
    let process = Process::spawn("the control plane", serve);
    until("the admin port to say that it is not ready", async || {
        process.assert_running();
        match client::get(admin.address(), "/readyz").try_send().await? {
            waiting if waiting.status == 503 => Ok(()),
            other => Err(format!("{} {}", other.status, other.text())),
        }
    })
    .await;
    let refused = TcpStream::connect(extension.address()).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn once_it_is_ready_every_hook_is_answered() {
    let (extension, folder) = (Port::lease(), TempDir::new().expect("a temporary folder can be made"));
    let listen = extension.address().to_string();
    let _gateway = Gateway::start_with(folder.path(), &["--extension-listen", &listen]).await;
    let stream = TcpStream::connect(extension.address()).await.expect("the port is open");
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    for hook in Hook::ALL {
        let request = Request::post(format!("http://{listen}/{SERVICE}/{}", hook.method()))
            .header("content-type", "application/grpc")
            .body(Full::new(Bytes::from_static(&[0; 5])))
            .expect("a request");
        let response = client.send_request(request).await.expect("an answer");
        let answer = response.into_body().collect().await.expect("a whole answer");
        assert_eq!(answer.trailers().expect("gRPC ends with them")["grpc-status"], "0", "{hook:?}");
    }
}
