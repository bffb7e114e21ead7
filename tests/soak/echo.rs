//! An origin for connections as a whole: what comes goes back, with the origin's number in the first byte of each message. What
//! begins like a request is answered like one first: with 101 where it asks for an upgrade, else, as a check does, with 200.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::raw::MESSAGE;

/// Enough for one connection.
const STACK: usize = 96 << 10;

pub(crate) fn serve(address: &str, number: &str) -> io::Result<()> {
    let number = number.bytes().next().unwrap_or(b'0');
    let listener = TcpListener::bind(address)?;
    for stream in listener.incoming() {
        let stream = stream?;
        thread::Builder::new().stack_size(STACK).spawn(move || drop(talk(&stream, number)))?;
    }
    Ok(())
}

/// Until the other side has said all, or the connection breaks.
fn talk(stream: &TcpStream, number: u8) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    if reader.fill_buf()?.starts_with(b"GET ") && !shake(&mut reader, number)? {
        return Ok(());
    }
    let mut message = [0; MESSAGE];
    loop {
        reader.read_exact(&mut message)?;
        message[0] = number;
        reader.get_mut().write_all(&message)?;
    }
}

/// Whether it goes on in another protocol.
fn shake(reader: &mut BufReader<&TcpStream>, number: u8) -> io::Result<bool> {
    let (mut line, mut upgrade) = (String::new(), false);
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        upgrade |= line.to_ascii_lowercase().starts_with("upgrade:");
    }
    let number = char::from(number);
    let answer = if upgrade {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: soak\r\nX-Origin: {number}\r\n\r\n"
        )
    } else {
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_string()
    };
    reader.get_mut().write_all(answer.as_bytes())?;
    Ok(upgrade)
}
