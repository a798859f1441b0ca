//! Nothing is left behind: counted in a process of its own, where nobody else opens anything.

use std::fs;
use std::rc::Rc;

use greenloom::http;
use greenloom::http::ureq::Agent;
use greenloom::spawn;

use crate::net_util::{in_child, is_child, stderr_of};
use crate::server::Server;
use crate::util::{MINUTE, ms, until, within};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn stacks() -> usize {
    greenloom::dump().greenlets().len()
}

/// Requests that end well, that are killed, and that are timed out.
fn all_sorts_of_requests() {
    let server = Rc::new(Server::start(|visit, _| {
        loop {
            if visit.hear()?[0].contains("/silent") {
                visit.until_gone();
                return Ok(());
            }
            visit.answer("page")?;
        }
    }));
    let config = || Agent::config_builder().proxy(None);
    let patient = http::agent_with(config().build());
    let impatient = http::agent_with(config().timeout_recv_response(Some(ms(50))).build());
    let clients: Vec<_> = (0..30)
        .map(|number| {
            let (agent, path) = match number % 3 {
                0 => (&patient, "/"),
                1 => (&patient, "/silent"),
                _ => (&impatient, "/silent"),
            };
            let (agent, url) = (agent.clone(), server.url(path));
            spawn(move || agent.get(&url).call().map(drop))
        })
        .collect();
    until(|| server.accepted() == 30);
    // Every second of three is killed, and every third times out.
    for client in clients.iter().skip(1).step_by(3) {
        client.kill();
    }
    let ends: Vec<_> = clients.into_iter().map(|client| client.get().ok()).collect();
    assert!(ends.iter().step_by(3).all(|end| matches!(end, Some(Ok(())))));
    assert!(ends.iter().skip(1).step_by(3).all(Option::is_none));
    assert!(ends.iter().skip(2).step_by(3).all(|end| matches!(end, Some(Err(_)))));
    drop((patient, impatient));
    until(|| server.open() == 0);
}

#[test]
#[cfg(target_os = "linux")]
fn nothing_is_left() {
    let child = in_child("leak::counted_alone");
    assert!(child.status.success(), "{}", stderr_of(&child));
}

#[test]
#[ignore = "run by nothing_is_left, in a process of its own"]
fn counted_alone() {
    if !is_child() {
        return;
    }
    within(MINUTE, || {
        all_sorts_of_requests(); // the hub is made, and all that is made once
        let before = (descriptors(), stacks());
        for _ in 0..3 {
            all_sorts_of_requests();
            assert_eq!((descriptors(), stacks()), before);
        }
    });
}
