//! HTTP/2 to endpoints, and gRPC through the proxy: how connections are shared, what is sent again when one ends, and that
//! streams go both ways to their end.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::sync::Semaphore;
use witgate_tests::{
    client::get,
    h2::frame,
    http2::{Origin, call, connect, read, respond, runtime, send},
    origin,
    proxy::{self, Running},
    tls::{Authority, Front},
    wait_for,
};

fn before(origins: &[&Origin], route: &str, cluster: &str) -> Running {
    let addresses: Vec<String> = origins.iter().map(|o| format!("{{ address = \"{}\" }}", o.address)).collect();
    proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"c\"\n{route}\n\
         [[cluster]]\nname = \"c\"\nprotocol = \"http2\"\nbalance = \"round-robin\"\nendpoints = [{}]\n{cluster}\n",
        addresses.join(", ")
    ))
}

/// Answers with what it was asked.
fn echo() -> Origin {
    Origin::answering(|request, to| {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let text = format!("{} {} {:?}", head.method, head.uri, head.headers);
            let (body, _) = read(body).await?;
            respond(to, 200, [text.as_bytes(), b"\n", &body].concat())
        })
    })
}

/// Keeps every stream until there are permits.
fn holding(most: Option<u32>) -> (Origin, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let origin = Origin::limited(most, move |_, to| {
        let gate = Arc::clone(&held);
        Box::pin(async move {
            gate.acquire().await.expect("it is not closed").forget();
            respond(to, 200, "held")
        })
    });
    (origin, gate)
}

fn ask_at_once(running: &Running, count: usize) -> Vec<thread::JoinHandle<u16>> {
    let web = running.web();
    (0..count).map(|_| thread::spawn(move || get(web, "/", "").status)).collect()
}

#[track_caller]
fn check_all_answered(asking: Vec<thread::JoinHandle<u16>>) {
    let statuses: Vec<u16> = asking.into_iter().map(|one| one.join().expect("an answer")).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[test]
fn a_request_is_said_as_http_2_says_it() {
    let origin = echo();
    let running = before(&[&origin], "", "");
    let mut client = running.client();
    let answer = client.ask(
        "POST /a?b=c HTTP/1.1\r\nhost: shop.example\r\nconnection: close-not, x-hop\r\nx-hop: 1\r\nexpect: 100-continue\r\n\
         upgrade: foo\r\nte: trailers, gzip\r\nx-kept: yes\r\ncontent-length: 5\r\n\r\nhello",
    );
    let text = &answer.body;
    assert_eq!(answer.status, 200, "{text}");
    assert!(text.starts_with("POST http://shop.example/a?b=c {"), "{text}");
    assert!(text.ends_with("}\nhello"), "{text}");
    for kept in ["\"x-kept\": \"yes\"", "\"te\": \"trailers\"", "\"content-length\": \"5\"", "x-request-id"] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    for gone in ["\"host\"", "x-hop\"", "\"connection\"", "expect", "upgrade", "gzip"] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
    let options = client.ask("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(options.status, 200, "{options:?}");
    let head = "HEAD /x HTTP/1.1\r\nhost: a\r\n\r\n";
    client.send(head).expect("it is taken");
    assert_eq!(client.response(true).expect("a head").status, 200);
}

#[test]
fn requests_share_connections() {
    let (origin, gate) = holding(None);
    let running = before(&[&origin], "", "");
    let asking = ask_at_once(&running, 40);
    wait_for("all to be there at once", || (origin.streams() == 40).then_some(()));
    // One a worker.
    assert!(origin.connections() <= 2, "{}", origin.connections());
    gate.add_permits(40);
    check_all_answered(asking);
    assert!(running.has_metric(&format!("witgate_upstream_connections_total {}", origin.connections())));
}

#[test]
fn an_endpoint_that_takes_few_streams_gets_more_connections() {
    let (origin, gate) = holding(Some(3));
    let running = before(&[&origin], "", "");
    let asking = ask_at_once(&running, 12);
    wait_for("all to be there at once", || (origin.streams() == 12).then_some(()));
    assert!((4..=6).contains(&origin.connections()), "{}", origin.connections());
    gate.add_permits(12);
    check_all_answered(asking);
}

#[test]
fn where_connections_are_limited_requests_wait_for_a_stream() {
    let (origin, gate) = holding(Some(1));
    let running = before(&[&origin], "", "pool = { max_connections = 1, max_pending = 1 }");
    let first = ask_at_once(&running, 1);
    wait_for("the first to be there", || (origin.streams() == 1).then_some(()));
    let second = ask_at_once(&running, 1);
    wait_for("the second to wait", || running.has_metric("witgate_cluster_pending{cluster=\"c\"} 1").then_some(()));
    let refused = get(running.web(), "/", "");
    assert_eq!((refused.status, refused.header("x-witgate-error")), (503, Some("circuit-open")), "{refused:?}");
    gate.add_permits(2);
    check_all_answered(first);
    check_all_answered(second);
    // The other worker may have had to close the first's connection to make its own.
    assert!(origin.connections() <= 2, "{}", origin.connections());
}

/// Says hello, and waits for the first request.
fn greet(mut stream: &TcpStream) -> Option<()> {
    stream.write_all(&frame(4, 0, 0, b"")).ok()?;
    let mut read = Vec::new();
    // A HEADERS frame of the first stream.
    while !read.windows(6).any(|w| w[0] == 1 && w[2..] == [0, 0, 0, 1]) {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).ok().filter(|n| *n > 0)?;
        read.extend_from_slice(&piece[..n]);
    }
    Some(())
}

/// Says goodbye to the first of `count` connections before it has done anything with what came.
fn leaving(count: usize) -> Origin {
    Origin::after(
        move |nth, mut stream| {
            if nth >= count {
                return None;
            }
            greet(stream)?;
            // GOAWAY: the last stream that was looked at is 0, no error.
            stream.write_all(&frame(7, 0, 0, &[0; 8])).ok()
        },
        None,
        |request, to| {
            Box::pin(async move {
                let (body, _) = read(request.into_body()).await?;
                respond(to, 200, body)
            })
        },
    )
}

#[test]
fn what_a_goodbye_leaves_out_is_sent_again() {
    let origin = leaving(2);
    let running = before(&[&origin], "retry = { attempts = 2, on = [\"refused-stream\"] }", "");
    let mut client = running.client();
    let posted = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!((posted.status, &*posted.body), (200, "hello"), "{posted:?}");
}

#[test]
fn who_only_says_goodbye_is_not_asked_for_ever() {
    let origin = leaving(usize::MAX);
    let running = before(&[&origin], "", "");
    let answer = get(running.web(), "/", "");
    assert_eq!((answer.status, answer.header("x-witgate-error")), (502, Some("upstream-reset")), "{answer:?}");
    assert!(origin.connections() <= 8, "{}", origin.connections());
}

#[test]
fn a_stream_that_is_refused_goes_to_another_endpoint() {
    let refusing = Origin::answering(|_, mut to| {
        Box::pin(async move {
            to.send_reset(Reason::REFUSED_STREAM);
            Ok(())
        })
    });
    let other = echo();
    let running = before(&[&refusing, &other], "", "");
    for _ in 0..4 {
        let mut client = running.client();
        let posted = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
        assert_eq!(posted.status, 200, "{posted:?}");
        assert!(posted.body.ends_with("hello"), "{posted:?}");
    }
    assert!(refusing.streams() > 0, "it was never asked");
    // Any other reset may mean that something was done: a POST is not repeated.
    let resetting = Origin::answering(|_, mut to| {
        Box::pin(async move {
            to.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        })
    });
    let running = before(&[&resetting], "retry = { attempts = 2 }", "");
    let mut client = running.client();
    let posted = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!((posted.status, posted.header("x-witgate-error")), (502, Some("upstream-reset")), "{posted:?}");
    assert_eq!(resetting.streams(), 1);
}

#[test]
fn large_bodies_go_both_ways_and_who_does_not_read_stops_no_other() {
    let large: String = (0..4_000_000_u32).map(|n| char::from(b'a' + n.to_le_bytes()[1] % 26)).collect();
    let sent = Bytes::from(large.clone());
    let origin = Origin::answering(move |request, mut to| {
        let sent = sent.clone();
        Box::pin(async move {
            if request.uri().path() == "/small" {
                return respond(to, 200, "small");
            }
            let (body, _) = read(request.into_body()).await?;
            let head = Response::builder().header("x-read", body.len()).body(()).expect("a response");
            let mut stream = to.send_response(head, false)?;
            send(&mut stream, sent).await?;
            stream.send_data(Bytes::new(), true)
        })
    });
    let running = before(&[&origin], "timeout = \"0s\"", "");
    // Clients that ask and do not read: more than the windows of all streams would hold.
    let deaf: Vec<_> = (0..8)
        .map(|_| {
            let mut client = running.client();
            client.send("GET /deaf HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is taken");
            client
        })
        .collect();
    wait_for("all of them to be answered", || (origin.streams() >= 8).then_some(()));
    for _ in 0..20 {
        assert_eq!(running.client().get("/small", "").status, 200);
    }
    let mut client = running.client();
    client.send(format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", large.len())).expect("it is taken");
    client.send(&large).expect("it is taken");
    let answer = client.response(false).expect("a response");
    assert_eq!(answer.header("x-read"), Some(&*large.len().to_string()));
    assert!(answer.body == large, "{} bytes", answer.body.len());
    drop(deaf);
}

/// Echoes each message of a call as it comes, and ends it with trailers.
fn chat() -> Origin {
    Origin::answering(|request, mut to| {
        Box::pin(async move {
            let mut body = request.into_body();
            let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a response");
            let mut stream = to.send_response(head, false)?;
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                send(&mut stream, data).await?;
            }
            let trailers = [("grpc-status", "0"), ("x-behind", "yes"), ("x-witgate-error", "no")];
            let trailers =
                trailers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            stream.send_trailers(HeaderMap::from_iter(trailers))
        })
    })
}

#[test]
fn a_call_goes_both_ways_at_once_and_ends_with_its_trailers() {
    let origin = chat();
    let running = before(&[&origin], "timeout = \"0s\"", "");
    runtime().block_on(async {
        let mut client = connect(running.web()).await;
        // The connection goes on behind a call whose response began before its request ended.
        for _ in 0..3 {
            let (response, mut saying) =
                client.send_request(call(running.web(), "/chat.Chat/Talk"), false).expect("a stream");
            let response = response.await.expect("a head before anything was said");
            assert_eq!(response.headers()["content-type"], "application/grpc");
            let mut heard = response.into_body();
            for message in ["one", "two", "three"] {
                saying.send_data(Bytes::from(message), false).expect("it is taken");
                assert_eq!(heard.data().await.expect("an echo").expect("no error"), message);
            }
            saying.send_data(Bytes::new(), true).expect("it is taken");
            assert!(heard.data().await.is_none());
            let trailers = heard.trailers().await.expect("no error").expect("trailers");
            assert_eq!(
                (&trailers["grpc-status"], &trailers["x-behind"]),
                (&"0".parse().unwrap(), &"yes".parse().unwrap())
            );
            assert!(!trailers.contains_key("x-witgate-error"), "{trailers:?}");
            client = client.ready().await.expect("the connection goes on");
        }
    });
    assert!(origin.connections() <= 2);
}

#[test]
fn a_client_that_leaves_ends_its_call_at_the_endpoint() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::answering(move |_, mut to| {
        let tell = tell.clone();
        Box::pin(async move {
            let mut stream = to.send_response(Response::new(()), false)?;
            let reset = std::future::poll_fn(|cx| stream.poll_reset(cx)).await?;
            tell.send(reset).expect("the test waits for it");
            Ok(())
        })
    });
    let running = before(&[&origin], "timeout = \"0s\"", "");
    runtime().block_on(async {
        let mut client = connect(running.web()).await;
        let (response, saying) = client.send_request(call(running.web(), "/x"), false).expect("a stream");
        let response = response.await.expect("a head");
        drop((response, saying));
        let reset = tokio::time::timeout(witgate_tests::PATIENCE, told.recv()).await;
        assert_eq!(reset, Ok(Some(Reason::CANCEL)), "what the endpoint was told");
    });
}

#[test]
fn the_proxys_own_answers_end_calls() {
    let silent = Origin::answering(|_, to| {
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(to);
            Ok(())
        })
    });
    let running = before(
        &[&silent],
        "timeout = \"1h\"",
        "outlier = { consecutive_local = 1, max_ejection_percent = 100 }\npanic_percent = 0",
    );
    runtime().block_on(async {
        let mut client = connect(running.web()).await;
        for _ in 0..3 {
            let mut hurried = call(running.web(), "/x.X/Y");
            hurried.headers_mut().insert("grpc-timeout", HeaderValue::from_static("50m"));
            client = client.ready().await.expect("it takes streams");
            let (response, _) = client.send_request(hurried, true).expect("a stream");
            let response = response.await.expect("an answer");
            assert_eq!(response.status(), 200);
            assert_eq!(
                (&response.headers()["grpc-status"], &response.headers()["grpc-message"]),
                (&"4".parse().unwrap(), &"timeout".parse().unwrap())
            );
        }
    });
    // A client's impatience is no endpoint's fault.
    assert_eq!(silent.streams(), 3);
    let nobody = before(&[], "", "");
    runtime().block_on(async {
        let mut client = connect(nobody.web()).await;
        let (response, _) = client.send_request(call(nobody.web(), "/x.X/Y"), true).expect("a stream");
        let head = response.await.expect("an answer");
        assert_eq!((head.status().as_u16(), &head.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
        // What is no call gets the status as it is.
        client = client.ready().await.expect("it takes streams");
        let plain = Request::get(format!("http://{}/", nobody.web())).body(()).expect("a request");
        let (response, _) = client.send_request(plain, true).expect("a stream");
        assert_eq!(response.await.expect("an answer").status(), 503);
    });
    wait_for("what it is counted under", || {
        nobody.has_metric("witgate_requests_total{route=\"all\",code_class=\"5xx\"} 2").then_some(())
    });
}

#[test]
fn who_is_there_no_longer_is_found_out() {
    // Takes what comes and says nothing, not even to a ping.
    let dead = Origin::after(
        |nth, mut stream| {
            if nth > 0 {
                return None;
            }
            stream.write_all(&frame(4, 0, 0, b"")).ok()?;
            let mut piece = [0; 4096];
            while stream.read(&mut piece).is_ok_and(|n| n > 0) {}
            Some(())
        },
        None,
        |_, to| Box::pin(async move { respond(to, 200, "alive") }),
    );
    let running = before(&[&dead], "timeout = \"100ms\"", "connect_timeout = \"50ms\"");
    let mut client = running.client();
    assert_eq!(client.get("/", "").status, 504);
    // Over the same client's connection, so by the same worker.
    wait_for("another connection", || (client.get("/", "").status == 200).then_some(()));
}

#[test]
fn what_is_no_http_2_is_told_as_such() {
    let malformed = |script: fn(&mut TcpStream)| {
        let origin = origin::Origin::raw(script);
        let running = proxy::start_before(&[&origin], "", "protocol = \"http2\"");
        let answer = get(running.web(), "/", "");
        assert_eq!((answer.status, answer.header("x-witgate-error")), (502, Some("upstream-malformed")), "{answer:?}");
    };
    malformed(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        let _ = stream.read(&mut [0; 4096]);
    });
    // Interim responses without end.
    malformed(|stream| {
        let mut said = frame(4, 0, 0, b"");
        // `:status: 103`, by the name's index in the static table.
        (0..100).for_each(|_| said.extend(frame(1, 4, 1, b"\x08\x03103")));
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&said);
        while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
    });
    // A switch of protocols.
    malformed(|stream| {
        let said = [frame(4, 0, 0, b""), frame(1, 5, 1, b"\x08\x03101")].concat();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&said);
        while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
    });
}

#[test]
fn a_response_that_is_not_as_long_as_it_says_is_cut() {
    let origin = Origin::answering(|_, mut to| {
        Box::pin(async move {
            let head = Response::builder().header("content-length", "10").body(()).expect("a response");
            to.send_response(head, false)?.send_data(Bytes::from_static(b"short"), true)
        })
    });
    let running = before(&[&origin], "", "");
    let mut client = running.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is taken");
    assert!(client.response(false).is_err(), "it looked whole");
}

#[test]
fn an_endpoint_chooses_what_is_spoken_over_tls() {
    let authority = Authority::new("ca");
    let pair = authority.issue("origin", &["localhost"]);
    let (new, old) = (echo(), origin::Origin::named("old"));
    let speaks_new = Front::speaking(new.address, &pair, &["h2"]);
    let speaks_old = Front::speaking(old.address, &pair, &["http/1.1"]);
    let (silent, dir) = (Front::before(new.address, &pair, None), witgate_tests::scratch());
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).expect("it can be written");
    let cluster = |name: &str, protocol: &str, front: &Front| {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}\"\ncluster = \"{name}\"\n[[cluster]]\nname = \"{name}\"\n\
             protocol = \"{protocol}\"\nendpoints = [{{ address = \"localhost:{}\" }}]\n\
             tls = {{ ca = \"ca.pem\" }}\nhealth = {{ http = {{ path = \"/up\" }}, interval = \"10ms\" }}\npanic_percent = 0\n",
            front.address.port()
        )
    };
    let running = proxy::start_in(
        dir,
        &[
            "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n".to_owned(),
            cluster("new", "auto", &speaks_new),
            cluster("old", "auto", &speaks_old),
            cluster("must", "http2", &speaks_new),
            cluster("cannot", "http2", &speaks_old),
            cluster("silent", "http2", &silent),
        ]
        .concat(),
    );
    for path in ["/new", "/must"] {
        for _ in 0..3 {
            let answer = get(running.web(), path, "");
            let text = &answer.body;
            assert!(text.starts_with("GET https://"), "{path}: {text}");
        }
    }
    let mut client = running.client();
    for _ in 0..3 {
        assert_eq!(client.get("/old", "").body, "old");
    }
    for path in ["/cannot", "/silent"] {
        let answer = get(running.web(), path, "");
        assert!(matches!(answer.status, 502 | 503), "{path}: {answer:?}");
    }
    // Health checks speak what requests do.
    for (cluster, health) in [("new", "healthy"), ("must", "healthy"), ("old", "healthy"), ("cannot", "unhealthy")] {
        wait_for(cluster, || {
            let shown = running.call("GET", &format!("/v1/clusters/{cluster}"), b"").json();
            (shown["endpoints"][0]["health"] == health).then_some(())
        });
    }
}

#[test]
fn connections_without_a_use_are_closed() {
    let origin = echo();
    let running = before(&[&origin], "", "pool = { idle_timeout = \"50ms\" }");
    let mut client = running.client();
    let mut rounds = 0;
    wait_for("a second connection", || {
        assert_eq!(client.get("/", "").status, 200);
        rounds += 1;
        thread::sleep(Duration::from_millis(100));
        (origin.connections() > 1).then_some(())
    });
    assert!(rounds > 1);
}

#[test]
fn an_end_of_its_own_behind_the_last_byte_is_no_break() {
    let origin = Origin::answering(|request, mut to| {
        Box::pin(async move {
            let head = Response::builder().header("content-length", "5").body(()).expect("a response");
            let mut stream = to.send_response(head, false)?;
            if request.method() != http::Method::HEAD {
                stream.send_data(Bytes::from_static(b"hello"), false)?;
            }
            stream.send_data(Bytes::new(), true)
        })
    });
    let running = before(&[&origin], "", "");
    let mut client = running.client();
    assert_eq!(client.get("/", "").body, "hello");
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is taken");
    assert_eq!(client.response(true).expect("a head").status, 200);
    assert_eq!(client.get("/", "").body, "hello");
    wait_for("all to be whole", || {
        running.has_metric("witgate_requests_total{route=\"all\",code_class=\"2xx\"} 3").then_some(())
    });
}

#[test]
fn who_closes_on_every_request_is_not_asked_for_ever() {
    let closing = Origin::after(
        |_, stream| {
            greet(stream);
            Some(())
        },
        None,
        |_, to| Box::pin(async move { respond(to, 200, "never") }),
    );
    let running = before(&[&closing], "retry = { attempts = 0 }", "");
    let statuses: Vec<u16> = ask_at_once(&running, 20).into_iter().map(|one| one.join().expect("an answer")).collect();
    assert!(statuses.iter().all(|status| *status == 502), "{statuses:?}");
    // Four times each at the most, were each alone on its connection.
    assert!(closing.connections() <= 80, "{}", closing.connections());
}

#[test]
fn an_endpoint_that_chooses_http_1_gets_connections_side_by_side() {
    let authority = Authority::new("ca");
    let pair = authority.issue("origin", &["localhost"]);
    let (gate, together) = (Arc::new(std::sync::Barrier::new(8)), Arc::new(AtomicBool::new(false)));
    let met = Arc::clone(&together);
    // Answers once eight are there at once.
    let old = origin::Origin::scripted(move |seen, stream| {
        if seen.line.starts_with("GET /together ") {
            gate.wait();
            met.store(true, SeqCst);
        }
        origin::respond(stream, 200, &[], b"old")
    });
    let (front, dir) = (Front::speaking(old.address, &pair, &["http/1.1"]), witgate_tests::scratch());
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).expect("it can be written");
    let config = format!(
        "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:0\"\n[[route]]\nname = \"all\"\ncluster = \"c\"\n\
         [[cluster]]\nname = \"c\"\nprotocol = \"auto\"\ntls = {{ ca = \"ca.pem\" }}\n\
         endpoints = [{{ address = \"localhost:{}\" }}]\n",
        front.address.port()
    );
    let running = proxy::start_in(dir, &config);
    let web = running.web();
    let asking: Vec<_> = (0..8).map(|_| thread::spawn(move || get(web, "/together", "").status)).collect();
    check_all_answered(asking);
    assert!(together.load(SeqCst));
}
