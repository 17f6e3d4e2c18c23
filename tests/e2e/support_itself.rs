//! What the other tests stand on holds: the load generator counts right, children die, waiting ends.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    process::{self, Command},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    backend::{Backend, Handshake},
    client,
    load::Load,
    manifests::Manifests,
    namespace::Namespace,
    ports::Port,
    process::Process,
    tls::Authority,
    tools::python_with_grpc,
    wait::until,
};

#[tokio::test]
async fn load_counts_exactly_the_failures_that_a_backend_makes() {
    let backend = Backend::start("failing").await;
    backend.answer_next(17, 503);
    let load = Load::start(&client::get(backend.address(), "/"), 4);
    load.wait_for(200).await;
    let tally = load.stop().await;
    assert_eq!(tally.by_status[&503], 17);
    assert_eq!(tally.failures(), 17);
    assert_eq!(tally.responses(), backend.requests());
    assert_eq!(tally.by_backend["failing"], backend.requests());
}

#[tokio::test]
async fn load_counts_requests_that_get_no_answer() {
    let nobody = Port::lease();
    let load = Load::start(&client::get(nobody.address(), "/"), 2);
    load.wait_for(5).await;
    let tally = load.stop().await;
    assert_eq!(tally.responses(), 0);
    assert!(tally.failures() >= 5, "{tally:?}");
    assert!(tally.errors.keys().all(|error| error.starts_with("connect: ")), "{tally:?}");
}

#[tokio::test]
async fn load_counts_the_requests_that_a_vanishing_backend_leaves_unanswered() {
    let backend = Backend::start("vanishing").await;
    backend.hold();
    let load = Load::start(&client::get(backend.address(), "/"), 3);
    backend.wait_for_requests(3).await;
    drop(backend);
    load.wait_for(3).await;
    let tally = load.stop().await;
    assert_eq!(tally.responses(), 0);
    assert!(tally.errors.iter().any(|(error, count)| error.starts_with("request: ") && *count == 3), "{tally:?}");
}

#[tokio::test]
async fn a_backend_tells_what_it_was_asked() {
    let backend = Backend::start("plain").await;
    let request = client::get(backend.address(), "/a/b?c=d").host("web.example").method("POST").body("text");
    let response = request.header("x-one", "1").header("x-one", "2").send().await;
    assert_eq!((response.status, response.header("x-backend")), (200, Some("plain")));
    let echo = response.echo();
    assert_eq!((&*echo.method, &*echo.path, &*echo.host), ("POST", "/a/b?c=d", "web.example"));
    assert_eq!((&*echo.headers["x-one"], &*echo.body, &*echo.protocol), ("1, 2", "text", "HTTP/1.1"));
    assert_eq!(backend.received(), [echo]);

    let echo = client::get(backend.address(), "/").host("two.example").http2().send().await.echo();
    assert_eq!((&*echo.host, &*echo.protocol), ("two.example", "HTTP/2.0"));
    backend.answer(404);
    assert_eq!(client::get(backend.address(), "/").send().await.status, 404);
    assert_eq!(backend.requests(), 3);
}

#[tokio::test]
async fn a_backend_holds_its_answers_until_it_may_give_them() {
    let backend = Backend::start("slow").await;
    backend.hold();
    let request = client::get(backend.address(), "/");
    let answer = tokio::spawn(async move { request.send().await.status });
    backend.wait_for_requests(1).await;
    let other = Backend::start("prompt").await;
    for _ in 0..10 {
        client::get(other.address(), "/").send().await;
    }
    assert!(!answer.is_finished(), "an answer overtaken by ten others");
    backend.release();
    assert_eq!(answer.await.expect("the request does not panic"), 200);
}

#[tokio::test]
async fn a_backend_over_tls_notes_server_name_and_protocol() {
    let authority = Authority::new();
    let backend = Backend::start_tls("secret", &authority.issue(&["one.example", "two.example"])).await;
    let one = client::get(backend.address(), "/").tls(&authority, "one.example").send().await;
    let two = client::get(backend.address(), "/").tls(&authority, "two.example").http2().send().await;
    assert_eq!((&*one.echo().protocol, &*two.echo().protocol), ("HTTP/1.1", "HTTP/2.0"));
    assert!(one.certificate.is_some_and(|certificate| Some(certificate) == two.certificate));

    let told = |name: &str, protocol: &str| Handshake {
        server_name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
    };
    assert_eq!(backend.handshakes(), [told("one.example", "http/1.1"), told("two.example", "h2")]);

    let stranger = client::get(backend.address(), "/").tls(&Authority::new(), "one.example").try_send().await;
    assert!(stranger.expect_err("an unknown authority").starts_with("TLS: "));
    let misnamed = client::get(backend.address(), "/").tls(&authority, "three.example").try_send().await;
    assert!(misnamed.expect_err("a name that the certificate lacks").starts_with("TLS: "));
}

#[tokio::test]
async fn a_backend_echoes_an_upgraded_connection() {
    let backend = Backend::start("websocket").await;
    let mut stream = client::get(backend.address(), "/").upgrade("websocket").await.expect("it upgrades");
    stream.write_all(b"hello").await.expect("the connection is open");
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.expect("the backend sends it back");
    assert_eq!(&back, b"hello");
    let refused = client::get(backend.address(), "/").upgrade("something-else").await;
    assert_eq!(refused.expect_err("it knows only one protocol").status, 200);
}

#[tokio::test]
async fn a_namespace_has_addresses_of_its_own_and_no_way_in_or_out_but_those_that_are_made() {
    let address: SocketAddr = ([10, 244, 0, 1], 80).into();
    let (one, two) = (Namespace::start(&[address.ip()]).await, Namespace::start(&[address.ip()]).await);
    let _backends = [
        Backend::serve("one", one.listen(address).await, None),
        Backend::serve("two", two.listen(address).await, None),
    ];
    let (to_one, to_two) = (one.lead_in(address).await, two.lead_in(address).await);
    assert_eq!(client::get(to_one, "/").send().await.echo().backend, "one");
    assert_eq!(client::get(to_two, "/").send().await.echo().backend, "two");

    // A program there reaches what is there, and of the outside what it is led to.
    let outside = Backend::start("outside").await;
    let answer = |from: SocketAddr| {
        let mut program = Command::new("python3");
        let script = "import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]))
connection.request('GET', '/')
print('from', connection.getresponse().headers['x-backend'])";
        program.args(["-c", script, &from.ip().to_string(), &from.port().to_string()]);
        Process::spawn("a program in the namespace", one.command(program))
    };
    answer(address).wait_for_line("from one").await;
    answer(outside.address()).wait_for_line("Connection refused").await;
    one.lead_out(outside.address(), outside.address()).await;
    answer(outside.address()).wait_for_line("from outside").await;

    drop(one);
    until("the way in to be gone", async || match client::get(to_one, "/").try_send().await {
        Err(error) => Ok(error),
        Ok(answer) => Err(answer.text()),
    })
    .await;
    assert_eq!(client::get(to_two, "/").send().await.echo().backend, "two");
}

#[test]
fn a_leased_port_is_nobody_elses_bound_or_not() {
    let port = Port::lease();
    for _ in 0..2 {
        let listener = TcpListener::bind(port.address()).expect("nobody else has it");
        assert!(Port::claim(port.number()).is_none());
        drop(listener);
        assert!(Port::claim(port.number()).is_none());
    }
    let number = port.number();
    drop(port);
    assert!(Port::claim(number).is_some());
}

#[test]
fn a_port_that_a_stranger_has_bound_is_not_leased() {
    let stranger = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    assert!(Port::claim(stranger.local_addr().expect("it is bound").port()).is_none());
}

#[tokio::test]
async fn a_process_tells_its_lines_and_its_end() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo first; echo second >&2; read line; exit 3"]);
    let process = Process::spawn("a shell", command);
    assert_eq!(process.wait_for_line("second").await, "second");
    assert_eq!(process.wait_for_line("fir").await, "first");
    assert_eq!(process.wait().await.code(), Some(3));
}

#[tokio::test]
#[should_panic(expected = "a shell ended without a line that contains \"never\"")]
async fn waiting_for_a_line_ends_with_the_process() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo something else"]);
    Process::spawn("a shell", command).wait_for_line("never").await;
}

/// A process that runs until it is killed, also when nobody reads what it prints any more.
fn endless() -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", "echo running; exec sleep 600"]);
    Process::spawn("an endless process", command)
}

/// Whether a process runs; a zombie does not.
fn runs(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[tokio::test]
async fn a_process_ends_with_its_guard() {
    let process = endless();
    process.wait_for_line("running").await;
    let id = process.id().to_string();
    assert!(runs(&id));
    drop(process);
    assert!(!runs(&id));
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the inner process reports to the outer one")]
async fn a_process_ends_with_a_test_process_that_had_no_time_to_clean_up() {
    const INNER: &str = "TSGW_TEST_ABORT_WITH_A_CHILD";
    if env::var_os(INNER).is_some() {
        let child = endless();
        child.wait_for_line("running").await;
        println!("\nchild {}", child.id());
        process::abort();
    }
    let mut inner = Command::new(env::current_exe().expect("this test binary"));
    let name = "support_itself::a_process_ends_with_a_test_process_that_had_no_time_to_clean_up";
    inner.args(["--exact", name, "--nocapture"]).env(INNER, "1");
    let inner = Process::spawn("the inner test process", inner);
    let child = inner.wait_for_line("child ").await;
    let child = child.trim_start_matches("child ");
    assert!(!inner.wait().await.success());
    until("the child to end", async || if runs(child) { Err("it runs".to_owned()) } else { Ok(()) }).await;
}

#[test]
fn manifests_are_written_whole_and_removed() {
    let manifests = Manifests::with(&[("a.yaml", "a: 1\n"), ("sub/b.yaml", "b: 1\n")]);
    manifests.write("a.yaml", "a: 2\n");
    manifests.remove("sub/b.yaml");
    assert_eq!(fs::read_to_string(manifests.path().join("a.yaml")).expect("it is there"), "a: 2\n");
    let names = fs::read_dir(manifests.path()).expect("it is there").map(|entry| entry.expect("readable").file_name());
    assert_eq!(names.collect::<Vec<_>>().len(), 2, "nothing but the file and the empty folder");
    let folder = manifests.path().to_owned();
    drop(manifests);
    assert!(!folder.exists());
}

#[test]
fn the_python_for_grpc_clients_has_grpc() {
    let output = python_with_grpc().args(["-c", "import grpc; print(grpc.__version__)"]).output();
    let output = output.expect("python3 can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
