//! `http::agent`: requests that park, limits, kills, and connections that are kept or not.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use greenloom::http::ureq::unversioned::transport::{
    self, ConnectionDetails, Connector as _, Either, NextTimeout, Transport as _,
};
use greenloom::http::ureq::{Agent, Error, Proxy, Timeout, config::Config};
use greenloom::http::{self, Connector, Resolver, Transport, ureq};
use greenloom::net::{Resolve, SocketAddr, TcpListener, set_resolver};
use greenloom::sync::{Event, Semaphore};
use greenloom::{catch_interrupt, spawn, with_timeout, yield_now};

use crate::server::Server;
use crate::util::{
    End, FullListener, HOUR, MINUTE, at_drop, end_of, ms, reason_of, state_of, swallow, until,
    until_parked, within,
};

type Builder = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;

fn configured(configure: impl FnOnce(Builder) -> Builder) -> Agent {
    http::agent_with(configure(Agent::config_builder().proxy(None)).build())
}

fn agent() -> Agent {
    configured(|config| config)
}

fn get(agent: &Agent, url: &str) -> Result<String, Error> {
    agent.get(url).call()?.body_mut().read_to_string()
}

#[test]
fn smoke() {
    within(MINUTE, || {
        let server = Server::saying("hello");
        assert_eq!(get(&agent(), &server.url("/")).unwrap(), "hello");
    });
}

/// The server answers nobody before all have asked.
#[test]
fn many_at_once_on_one_thread() {
    const MANY: usize = 50;
    within(MINUTE, || {
        let (asked, all_there) = (Cell::new(0), Event::new());
        let server = Server::start(move |visit, number| {
            visit.hear()?;
            asked.set(asked.get() + 1);
            if asked.get() == MANY {
                all_there.set();
            }
            all_there.wait();
            visit.answer(&number.to_string())
        });
        let agent = agent();
        let pages: Vec<_> = (0..MANY)
            .map(|_| {
                let (agent, url) = (agent.clone(), server.url("/"));
                spawn(move || get(&agent, &url).unwrap().parse().unwrap())
            })
            .collect();
        let mut numbers: Vec<usize> = pages.into_iter().map(|page| page.get().unwrap()).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..MANY));
    });
}

#[test]
fn a_large_body_both_ways() {
    const LEN: usize = 3 << 20;
    within(MINUTE, || {
        let server = Server::start(|visit, _| {
            visit.hear()?;
            let body = visit.hear_body(LEN)?;
            visit.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n"))?;
            visit.stream.write_all(&body)
        });
        let body: Vec<u8> = (0..LEN).map(|i| (i % 251) as u8).collect();
        let mut reply = agent().post(server.url("/")).send(&body[..]).unwrap();
        assert!(reply.body_mut().read_to_vec().unwrap() == body);
    });
}

#[test]
fn expect_100_continue() {
    within(MINUTE, || {
        let server = Server::start(|visit, _| {
            let head = visit.hear()?;
            assert!(head.iter().any(|line| line.eq_ignore_ascii_case("expect: 100-continue")));
            visit.say("HTTP/1.1 100 Continue\r\n\r\n")?;
            let body = visit.hear_body(4)?;
            visit.answer(&String::from_utf8(body).unwrap())
        });
        let request = agent().post(server.url("/")).header("Expect", "100-continue");
        assert_eq!(request.send("word").unwrap().body_mut().read_to_string().unwrap(), "word");
    });
}

#[test]
fn ipv6() {
    within(MINUTE, || {
        let server = Server::start_on("[::1]:0", |visit, _| {
            visit.hear()?;
            visit.answer("six")
        });
        assert_eq!(get(&agent(), &server.url("/")).unwrap(), "six");
    });
}

// ------------------------------------------------------------------- connections that are kept

#[test]
fn connections_are_kept() {
    within(MINUTE, || {
        let server = Server::saying("again");
        let agent = agent();
        for _ in 0..3 {
            assert_eq!(get(&agent, &server.url("/")).unwrap(), "again");
        }
        assert_eq!(server.accepted(), 1);
        drop(agent);
        until(|| server.open() == 0);
    });
}

/// A connection made in one thread serves a request of another, and of the first again.
#[test]
fn an_agent_goes_between_threads() {
    thread_local!(static TOLD: Event = Event::new());
    within(MINUTE, || {
        let server = Server::saying("here and there");
        let agent = agent();
        let url = server.url("/");
        assert_eq!(get(&agent, &url).unwrap(), "here and there");
        let other = thread::spawn({
            let (agent, url) = (agent.clone(), url.clone());
            let remote = greenloom::Hub::current().remote();
            move || {
                let page = get(&agent, &url).unwrap();
                remote.spawn(|| TOLD.with(Event::set)).unwrap();
                page
            }
        });
        TOLD.with(Event::wait);
        assert_eq!(other.join().unwrap(), "here and there");
        assert_eq!(get(&agent, &url).unwrap(), "here and there");
        assert_eq!(server.accepted(), 1);
    });
}

/// The server hangs up between two requests: the second makes a connection of its own.
#[test]
fn a_connection_that_was_closed_is_not_used() {
    within(MINUTE, || {
        let server = Server::start(|visit, _| {
            visit.hear()?;
            visit.answer("once")
        });
        let agent = agent();
        for _ in 0..3 {
            assert_eq!(get(&agent, &server.url("/")).unwrap(), "once");
            until(|| server.open() == 0);
        }
        assert_eq!(server.accepted(), 3);
    });
}

/// What nobody asked for would be taken for the beginning of the next answer.
#[test]
fn a_connection_with_more_in_it_is_not_used() {
    within(MINUTE, || {
        let more = Event::new();
        let said = Event::new();
        let server = Server::start({
            let (more, said) = (more.clone(), said.clone());
            move |visit, number| {
                visit.hear()?;
                visit.answer("right")?;
                if number == 0 {
                    more.wait();
                    visit.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")?;
                    said.set();
                }
                visit.until_gone();
                Ok(())
            }
        });
        let agent = agent();
        assert_eq!(get(&agent, &server.url("/")).unwrap(), "right");
        more.set();
        said.wait();
        assert_eq!(get(&agent, &server.url("/")).unwrap(), "right");
        assert_eq!(server.accepted(), 2);
    });
}

/// Who gives up half-way through an answer does not leave the rest to the next.
#[test]
fn a_half_read_connection_is_not_used() {
    within(MINUTE, || {
        let server = Server::start(|visit, number| {
            visit.hear()?;
            visit.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
            if number > 0 {
                visit.say("-half")?;
            }
            visit.until_gone();
            Ok(())
        });
        let agent = agent();
        let url = server.url("/");
        let mut begun = agent.get(&url).call().unwrap();
        let mut half = [0; 5];
        begun.body_mut().as_reader().read_exact(&mut half).unwrap();
        drop(begun);
        assert_eq!(get(&agent, &url).unwrap(), "first-half");
        assert_eq!(server.accepted(), 2);
    });
}

// ------------------------------------------------------------------------------------- limits

#[track_caller]
fn assert_times_out<T>(result: Result<T, Error>, limit: Timeout) {
    match result {
        Err(Error::Timeout(reason)) => assert_eq!(reason, limit),
        Err(other) => panic!("not a timeout: {other}"),
        Ok(_) => panic!("it came to an end"),
    }
}

const SHORT: Option<Duration> = Some(Duration::from_millis(30));

fn silent() -> Server {
    Server::start(|visit, _| {
        visit.until_gone();
        Ok(())
    })
}

#[test]
fn a_limit_to_connecting() {
    within(MINUTE, || {
        let full = FullListener::new();
        let url = format!("http://{}/", full.address());
        let agent = configured(|config| config.timeout_connect(SHORT));
        assert_times_out(get(&agent, &url), Timeout::Connect);
    });
}

#[test]
fn a_limit_to_the_whole() {
    within(MINUTE, || {
        let server = silent();
        let agent = configured(|config| config.timeout_global(SHORT));
        assert_times_out(get(&agent, &server.url("/")), Timeout::Global);
        until(|| server.open() == 0);
    });
}

#[test]
fn a_limit_to_the_answers_head() {
    within(MINUTE, || {
        let server = silent();
        let agent = configured(|config| config.timeout_recv_response(SHORT));
        assert_times_out(get(&agent, &server.url("/")), Timeout::RecvResponse);
    });
}

/// It never stops, and each piece comes in time.
#[test]
fn a_limit_to_an_endless_body() {
    within(MINUTE, || {
        let server = Server::start(|visit, _| {
            visit.hear()?;
            visit.say("HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                visit.say("more and ")?;
                greenloom::sleep(ms(1));
            }
        });
        let agent = configured(|config| config.timeout_recv_body(SHORT));
        assert_times_out(get(&agent, &server.url("/")), Timeout::RecvBody);
    });
}

#[test]
fn a_limit_to_each_read() {
    within(MINUTE, || {
        let server = silent();
        let agent = configured(|config| config.timeout_per_read(SHORT).timeout_global(Some(HOUR)));
        assert_times_out(get(&agent, &server.url("/")), Timeout::PerRead);
    });
}

/// Nobody reads what is sent.
#[test]
fn a_limit_to_sending() {
    within(MINUTE, || {
        let server = Server::start(|visit, _| {
            visit.hear()?;
            greenloom::sleep(HOUR);
            Ok(())
        });
        let body = vec![0; 32 << 20];
        let agent = configured(|config| config.timeout_send_body(SHORT));
        assert_times_out(agent.post(server.url("/")).send(&body[..]), Timeout::SendBody);
        let agent = configured(|config| config.timeout_per_write(SHORT));
        assert_times_out(agent.post(server.url("/")).send(&body[..]), Timeout::PerWrite);
    });
}

/// A limit that is long enough does not show.
#[test]
fn limits_that_are_kept() {
    within(MINUTE, || {
        let server = Server::saying("in time");
        let agent = configured(|config| {
            config
                .timeout_global(Some(HOUR))
                .timeout_resolve(Some(HOUR))
                .timeout_connect(Some(HOUR))
                .timeout_per_read(Some(HOUR))
                .timeout_per_write(Some(HOUR))
                .timeout_recv_body(Some(Duration::MAX))
        });
        assert_eq!(get(&agent, &server.url("/")).unwrap(), "in time");
    });
}

// -------------------------------------------------------------------------------------- names

/// Knows every host: it has two addresses, one where nobody answers and one where `server` does.
struct Names {
    dead: SocketAddr,
    server: SocketAddr,
}

impl Resolve for Names {
    fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        match host {
            "slow.test" => greenloom::sleep(HOUR),
            "none.test" => return Ok(Vec::new()),
            "wrong.test" => return Err(io::Error::other("nobody of that name")),
            _ => {}
        }
        Ok(vec![self.dead, self.server])
    }
}

/// Issue 4: "a slow name look-up delays only the greenlet that asked". And an address that does not
/// answer delays nobody for long.
#[test]
fn names_are_those_of_the_threads_resolver() {
    within(MINUTE, || {
        let full = FullListener::new();
        let server = Server::saying("found");
        set_resolver(Names { dead: full.address(), server: server.address });
        let agent = agent();
        let slow = spawn({
            let agent = agent.clone();
            move || get(&agent, "http://slow.test/").map(drop)
        });
        until_parked(slow.id());
        assert_eq!(get(&agent, "http://quick.test/").unwrap(), "found");
        assert!(!slow.is_finished());
        slow.kill();

        let limited = configured(|config| config.timeout_resolve(SHORT));
        assert_times_out(get(&limited, "http://slow.test/"), Timeout::Resolve);
        let none = get(&agent, "http://none.test/");
        assert!(matches!(none, Err(Error::HostNotFound)), "{none:?}");
        let wrong = get(&agent, "http://wrong.test/").unwrap_err();
        assert_eq!(wrong.to_string(), "io: nobody of that name");
    });
}

/// Both are dead, and the limit is for the race as a whole.
#[test]
fn a_limit_to_racing() {
    within(MINUTE, || {
        let full = FullListener::new();
        set_resolver(Names { dead: full.address(), server: full.address() });
        let agent = configured(|config| config.timeout_connect(SHORT));
        assert_times_out(get(&agent, "http://dead.test/"), Timeout::Connect);
    });
}

// -------------------------------------------------------------------------------------- kills

/// A request that has come as far as waiting for `reason`, in a greenlet to be killed.
fn waiting(
    agent: &Agent,
    url: String,
    body: usize,
    reason: &'static str,
) -> greenloom::Greenlet<()> {
    let agent = agent.clone();
    let client = spawn(move || {
        let page = match body {
            0 => get(&agent, &url),
            len => agent.post(&url).send(&vec![0; len][..]).map(|_| String::new()),
        };
        panic!("it came to an end: {page:?}");
    });
    until(|| reason_of(client.id()).is_some_and(|shown| shown.starts_with(reason)));
    client
}

/// Killed wherever it waits: its connection is closed, not kept, and the agent is as good as new.
#[test]
fn a_kill_closes_the_connection() {
    within(MINUTE, || {
        let agent = agent();
        let full = FullListener::new();
        let client = waiting(&agent, format!("http://{}/", full.address()), 0, "connect");
        client.kill();
        assert_eq!(end_of(client), End::Killed);

        let heard = Rc::new(Event::new());
        // What the server does, what the client sends, and what it is then killed in.
        let cases: [(&str, usize, &str); 3] = [
            ("", 0, "read"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun", 0, "read"),
            ("", 32 << 20, "write"),
        ];
        for (words, body, reason) in cases {
            heard.clear();
            let server = Server::start({
                let heard = heard.clone();
                move |visit, number| {
                    visit.hear()?;
                    if number > 0 {
                        return visit.answer("the next");
                    }
                    visit.say(words)?;
                    heard.set();
                    if body == 0 {
                        visit.until_gone();
                    } else {
                        greenloom::sleep(HOUR);
                    }
                    Ok(())
                }
            });
            let client = waiting(&agent, server.url("/"), body, reason);
            heard.wait();
            // So that it has taken what there is.
            greenloom::idle();
            client.kill();
            assert_eq!(end_of(client), End::Killed);
            if body == 0 {
                until(|| server.open() == 0);
            }
            assert_eq!(get(&agent, &server.url("/")).unwrap(), "the next");
            assert_eq!(server.accepted(), 2);
        }
    });
}

/// The timeout is caught around a read of the body, and the rest is read later: nothing is missing.
#[test]
fn a_body_can_be_read_on_after_a_timeout() {
    within(MINUTE, || {
        let permits = Rc::new(Semaphore::new(0));
        let server = Server::start({
            let permits = permits.clone();
            move |visit, _| {
                visit.hear()?;
                visit.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")?;
                for piece in ["one", "two", "six"] {
                    permits.acquire().forget();
                    visit.say(piece)?;
                }
                visit.until_gone();
                Ok(())
            }
        });
        let mut reply = agent().get(server.url("/")).call().unwrap();
        let mut reader = reply.body_mut().as_reader();
        let (mut text, mut timeouts) = (Vec::new(), 0);
        loop {
            let mut piece = [0; 2];
            match with_timeout(ms(5), || reader.read(&mut piece).unwrap()) {
                Ok(0) => break,
                Ok(count) => text.extend_from_slice(&piece[..count]),
                Err(_) => {
                    timeouts += 1;
                    permits.release();
                }
            }
        }
        assert_eq!(text, b"onetwosix");
        assert_eq!(timeouts, 3);
    });
}

/// A kill that is caught, and the request given up: the server sees the end of it.
#[test]
fn a_caught_kill() {
    within(MINUTE, || {
        let server = silent();
        let url = server.url("/");
        let client = spawn(move || catch_interrupt(|| get(&agent(), &url).map(drop)).is_err());
        until(|| server.open() == 1);
        until_parked(client.id());
        client.kill();
        assert_eq!(end_of(client), End::Value(true));
        until(|| server.open() == 0);
    });
}

/// From a destructor while the greenlet unwinds: nothing waits, so it fails at once.
#[test]
fn a_request_while_unwinding_fails_at_once() {
    within(MINUTE, || {
        let server = Server::saying("nobody hears it");
        let url = server.url("/");
        let seen = RefCell::new(None);
        let result = swallow(|| {
            let _request = at_drop(|| *seen.borrow_mut() = Some(get(&agent(), &url).is_err()));
            std::panic::resume_unwind(Box::new("away"));
        });
        assert!(result.is_err());
        assert_eq!(seen.take(), Some(true));
    });
}

/// A write that was cut off leaves a connection that says so.
#[test]
fn a_torn_connection_is_not_open() {
    #[derive(Debug)]
    struct Tear;
    impl transport::Connector<Either<(), Transport>> for Tear {
        type Out = Transport;
        fn connect(
            &self,
            _: &ConnectionDetails<'_>,
            chained: Option<Either<(), Transport>>,
        ) -> Result<Option<Transport>, Error> {
            let Some(Either::B(mut transport)) = chained else { panic!("a connection was made") };
            assert!(transport.is_open());
            let len = transport.buffers().output().len();
            let limit = NextTimeout { after: ms(30).into(), ..NextTimeout::default() };
            let error = loop {
                if let Err(error) = transport.transmit_output(len, limit) {
                    break error;
                }
                assert!(transport.is_open());
            };
            assert!(matches!(error, Error::Timeout(Timeout::Global)), "{error}");
            assert!(!transport.is_open());
            let again = transport.transmit_output(1, NextTimeout::default()).unwrap_err();
            assert_eq!(again.to_string(), "io: an earlier write was interrupted half-way");
            Err(Error::ConnectionFailed)
        }
    }
    within(MINUTE, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connector = ().chain(Connector::new()).chain(Tear);
        let config = Config::builder().proxy(None).build();
        let agent = Agent::with_parts(config, connector, Resolver::new());
        let error = get(&agent, &format!("http://{}/", listener.local_addr().unwrap()));
        assert!(matches!(error, Err(Error::ConnectionFailed)), "{error:?}");
    });
}

/// `Agent::shutdown` ends requests that wait, also those of another thread.
#[test]
fn shutdown_of_the_agent() {
    within(MINUTE, || {
        let server = silent();
        let agent = agent();
        let url = server.url("/");
        let client = spawn({
            let (agent, url) = (agent.clone(), url.clone());
            move || get(&agent, &url).map_err(|error| error.to_string())
        });
        until(|| server.open() == 1);
        until_parked(client.id());
        thread::spawn({
            let agent = agent.clone();
            move || agent.shutdown()
        });
        let End::Value(Err(error)) = end_of(client) else { panic!("it came to an end") };
        assert_eq!(error, "io: Peer disconnected");
        assert!(get(&agent, &url).is_err(), "no new ones");
    });
}

// ------------------------------------------------------------------------------------- errors

#[test]
fn a_refused_connection() {
    within(MINUTE, || {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        match get(&agent(), &format!("http://{address}/")) {
            Err(Error::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
            other => panic!("{other:?}"),
        }
    });
}

/// Content-Length promised more, a chunk is missing, or it is not HTTP at all.
#[test]
fn broken_answers() {
    within(MINUTE, || {
        for words in [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nshort\r\n",
            "HTTP/1.1 200 OK\r\nContent-Len",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "",
        ] {
            let server = Server::start(move |visit, _| {
                visit.hear()?;
                visit.say(words)
            });
            let page = get(&agent(), &server.url("/"));
            assert!(page.is_err(), "{words:?} gave {page:?}");
        }
    });
}

#[test]
fn redirects_without_end() {
    within(MINUTE, || {
        let server = Server::start(|visit, _| {
            loop {
                visit.hear()?;
                visit.say("HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")?;
            }
        });
        let page = get(&agent(), &server.url("/"));
        assert!(matches!(page, Err(Error::TooManyRedirects)), "{page:?}");
        assert_eq!(server.accepted(), 1, "all by one connection");
    });
}

// ------------------------------------------------------------------------------------ proxies

/// A proxy that connects through to `target`, whatever it is asked for, and notes that.
pub(crate) fn connect_proxy(asked: Rc<RefCell<Vec<String>>>, target: &Server) -> Server {
    let target = target.address;
    Server::start(move |visit, _| {
        asked.borrow_mut().push(visit.hear()?.remove(0));
        let through = greenloom::net::TcpStream::connect(target)?;
        visit.say("HTTP/1.1 200 OK\r\n\r\n")?;
        let (there, back) = (visit.stream.clone(), through.clone());
        let back = spawn(move || io::copy(&mut &back, &mut &there).map(drop));
        io::copy(&mut &visit.stream, &mut &through)?;
        through.shutdown(greenloom::net::Shutdown::Write)?;
        back.get().unwrap()
    })
}

#[test]
fn a_connect_proxy() {
    within(MINUTE, || {
        let server = Server::saying("through the wall");
        let asked = Rc::new(RefCell::new(Vec::new()));
        let proxy = connect_proxy(asked.clone(), &server);
        let through = Proxy::new(&format!("http://{}", proxy.address)).unwrap();
        let agent = configured(|config| config.proxy(Some(through)));
        // The name is the proxy's business: nobody here can look it up.
        assert_eq!(get(&agent, "http://behind.invalid/").unwrap(), "through the wall");
        assert_eq!(asked.take(), ["CONNECT behind.invalid:80 HTTP/1.1"]);
    });
}

#[test]
fn a_socks_proxy_is_refused() {
    within(MINUTE, || {
        let server = Server::saying("unproxied");
        let socks = Proxy::new("socks5://127.0.0.1:1").unwrap();
        let agent = configured(|config| config.proxy(Some(socks)));
        match get(&agent, &server.url("/")) {
            Err(Error::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.accepted(), 0);
    });
}

/// The others run while a request waits.
#[test]
fn the_others_run_meanwhile() {
    within(MINUTE, || {
        let server = silent();
        let url = server.url("/");
        let client = spawn(move || get(&agent(), &url).map(drop));
        until_parked(client.id());
        for _ in 0..1000 {
            yield_now();
        }
        assert_eq!(state_of(client.id()), Some("parked"));
        client.kill();
    });
}
