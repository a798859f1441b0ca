//! suppaftp: a connection for what is said, and one for each file.

use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;

use suppaftp::FtpStream;

use crate::monkey_util::alone;
use crate::{all_at_once, assert_squares, serve, square};

/// As much of a server as the client below needs: what is stored under a number has to be that
/// number, and what is fetched is its square.
fn attend(mut stream: TcpStream, barrier: &Barrier) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut say = |words: &str| write!(stream, "{words}\r\n").unwrap();
    let mut door = None;
    say("220 hello");
    while let Some(Ok(line)) = lines.next() {
        let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
        match command {
            "USER" => say("331 and the password?"),
            "PASS" => say("230 come in"),
            "TYPE" => say("200 as you like"),
            "PASV" => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let port = listener.local_addr().unwrap().port();
                say(&format!("227 entering passive mode (127,0,0,1,{},{})", port >> 8, port & 255));
                door = Some(listener);
            }
            "STOR" => {
                let (mut data, _) = door.take().unwrap().accept().unwrap();
                say("150 send it");
                let mut stored = String::new();
                data.read_to_string(&mut stored).unwrap();
                assert_eq!(stored, argument);
                barrier.wait();
                say("226 it is here");
            }
            "RETR" => {
                let (mut data, _) = door.take().unwrap().accept().unwrap();
                barrier.wait();
                say("150 here it comes");
                barrier.wait();
                write!(data, "{}", square(argument.parse().unwrap())).unwrap();
                drop(data);
                say("226 that was it");
            }
            "QUIT" => return say("221 goodbye"),
            _ => say("502 I do not know that"),
        }
    }
}

alone! {
    fn suppaftp() {
        let server = serve(attend);
        let answers = all_at_once(move |number| {
            let mut ftp = FtpStream::connect(server).unwrap();
            ftp.login("anonymous", "me").unwrap();
            let name = number.to_string();
            ftp.put_file(&name, &mut Cursor::new(name.as_bytes())).unwrap();
            let file = ftp.retr_as_buffer(&name).unwrap();
            ftp.quit().unwrap();
            String::from_utf8(file.into_inner()).unwrap().parse().unwrap()
        });
        assert_squares(&answers);
    }
}
