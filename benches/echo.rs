//! One message there and back over loopback, between two greenlets of one thread, and for scale
//! between two threads of the operating system.

use std::io::{Read, Write};
use std::{net, thread};

use criterion::{Criterion, criterion_group, criterion_main};
use greenloom::net::{TcpListener, TcpStream};
use greenloom::spawn;

const MESSAGE: [u8; 64] = [b'm'; 64];

/// Returns everything until the peer hangs up.
fn echo(mut stream: impl Read + Write) {
    let mut message = [0; MESSAGE.len()];
    while let Ok(()) = stream.read_exact(&mut message) {
        stream.write_all(&message).expect("the peer reads every answer");
    }
}

fn round_trip(mut stream: impl Read + Write) {
    let mut answer = [0; MESSAGE.len()];
    stream.write_all(&MESSAGE).expect("the server reads");
    stream.read_exact(&mut answer).expect("the server answers");
}

fn greenlets(c: &mut Criterion) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let addr = listener.local_addr().expect("it is bound");
    let server = spawn(move || echo(listener.accept().expect("main connects").0));
    let client = TcpStream::connect(addr).expect("the server listens");
    client.set_nodelay(true).expect("it is connected");
    c.bench_function("echo/greenlets of one thread", |b| b.iter(|| round_trip(&client)));
    drop(client);
    server.join();
}

fn threads(c: &mut Criterion) {
    let listener = net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let addr = listener.local_addr().expect("it is bound");
    let server = thread::spawn(move || echo(listener.accept().expect("main connects").0));
    let client = net::TcpStream::connect(addr).expect("the server listens");
    client.set_nodelay(true).expect("it is connected");
    c.bench_function("echo/threads with std::net", |b| b.iter(|| round_trip(&client)));
    drop(client);
    server.join().expect("it ends when we hang up");
}

criterion_group!(benches, greenlets, threads);
criterion_main!(benches);
