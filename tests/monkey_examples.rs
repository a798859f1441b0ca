//! Runs the examples of `monkey`: each of their tests has a process of its own, because what is
//! patched is patched for the whole process.

#![allow(clippy::duplicate_mod, reason = "the examples bring the same small helpers along")]

mod monkey_util;

#[path = "../examples/monkey_curl.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod monkey_curl;
#[path = "../examples/monkey_db/main.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod monkey_db;
#[path = "../examples/monkey_std_server.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod monkey_std_server;
#[path = "../examples/monkey_ureq.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod monkey_ureq;
