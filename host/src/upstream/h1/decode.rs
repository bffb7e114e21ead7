//! A response's body off the wire: by length, by chunks, or until the endpoint closes (RFC 9112 §6 and §7). Hands out the
//! bytes as they lie in the read buffer; copies none.

mod passing;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

pub use passing::Passing;

use super::{
    Malformed,
    head::{Framing, may_trail},
};

/// Bytes of chunk extensions, or of trailers, in one body. hyper's limits.
const MAX_EXTENSIONS: usize = 16 << 10;
const MAX_TRAILERS: usize = 16 << 10;
const MAX_TRAILER_FIELDS: usize = 64;

/// Where in a body the reader is.
#[derive(Debug)]
pub(super) enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunked(Chunked),
    /// Until the endpoint closes.
    Close,
    /// Read to its end.
    Done,
}

/// What a decoder made of what was read.
#[derive(Debug, PartialEq)]
pub(super) enum Decoded {
    /// A piece of the body.
    Data(Bytes),
    /// What comes behind it.
    Trailers(HeaderMap),
    /// The body was read to its end.
    End,
    /// More bytes are needed.
    More,
}

/// A chunked body.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    extensions: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// In a chunk's size, with at least one digit read or not.
    Size(u64, bool),
    /// White space behind the size.
    Blank(u64),
    /// Behind the size and a semicolon: until the line ends.
    Extension(u64),
    /// The line feed of the size's line.
    SizeLf(u64),
    /// In a chunk's data.
    Data(u64),
    /// The line's end behind the data.
    DataCr,
    DataLf,
    /// Behind the last chunk.
    Trailers,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked { state: State::Size(0, false), extensions: 0 }),
            Framing::Close => Self::Close,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Takes the next piece off what was read.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Malformed> {
        match self {
            Self::Done => Ok(Decoded::End),
            Self::Length(left) => {
                let Some(data) = data(left, buffer) else { return Ok(Decoded::More) };
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Decoded::Data(data))
            }
            Self::Close if buffer.is_empty() => Ok(Decoded::More),
            Self::Close => Ok(Decoded::Data(buffer.split().freeze())),
            Self::Chunked(chunked) => {
                let decoded = chunked.next(buffer)?;
                if matches!(decoded, Decoded::End | Decoded::Trailers(_)) {
                    *self = Self::Done;
                }
                Ok(decoded)
            }
        }
    }

    /// The endpoint has closed. Whether that is the body's end.
    pub(super) fn close(&mut self) -> bool {
        let ends = matches!(self, Self::Close | Self::Done);
        *self = Self::Done;
        ends
    }

    /// Bytes that are still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Done => Some(0),
            _ => None,
        }
    }
}

/// As much of `left` bytes as was read.
fn data(left: &mut u64, buffer: &mut BytesMut) -> Option<Bytes> {
    let there = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    if there == 0 {
        return None;
    }
    *left -= there as u64;
    Some(buffer.split_to(there).freeze())
}

impl Chunked {
    fn next(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Malformed> {
        loop {
            if let State::Data(left) = &mut self.state {
                let Some(data) = data(left, buffer) else { return Ok(Decoded::More) };
                if *left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Decoded::Data(data));
            }
            if let State::Trailers = self.state {
                return trailers(buffer);
            }
            if !self.line(buffer)? {
                return Ok(Decoded::More);
            }
        }
    }

    /// Reads on until data or trailers begin. False: more bytes are needed.
    fn line(&mut self, buffer: &mut BytesMut) -> Result<bool, Malformed> {
        let mut used = 0;
        for &byte in buffer.iter() {
            used += 1;
            self.state = self.step(byte)?;
            if matches!(self.state, State::Data(_) | State::Trailers) {
                break;
            }
        }
        let _ = buffer.split_to(used);
        Ok(matches!(self.state, State::Data(_) | State::Trailers))
    }

    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        Ok(match (self.state, byte) {
            (State::Size(size, _), byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                let size = size.checked_mul(16).map(|size| size | digit);
                State::Size(size.ok_or(Malformed::new("a chunk's size that is too large"))?, true)
            }
            (State::Size(size, true), b'\r') => State::SizeLf(size),
            // White space before an extension is bad, and common (RFC 9112 §7.1.1).
            (State::Size(size, true) | State::Blank(size), b' ' | b'\t') => {
                self.count_extension()?;
                State::Blank(size)
            }
            (State::Size(size, true) | State::Blank(size), b';') => State::Extension(size),
            (State::Blank(size) | State::Extension(size), b'\r') => State::SizeLf(size),
            (State::Extension(_), b'\n' | 0) => return Err(Malformed::new("a chunk's extension")),
            (State::Extension(size), _) => {
                self.count_extension()?;
                State::Extension(size)
            }
            (State::SizeLf(0), b'\n') => State::Trailers,
            (State::SizeLf(size), b'\n') => State::Data(size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0, false),
            _ => return Err(Malformed::new("a chunk's size or end")),
        })
    }

    fn count_extension(&mut self) -> Result<(), Malformed> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS { Err(Malformed::new("chunk extensions that do not end")) } else { Ok(()) }
    }
}

/// Behind the last chunk: fields, and an empty line.
fn trailers(buffer: &mut BytesMut) -> Result<Decoded, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let (end, fields) = match httparse::parse_headers(buffer, &mut fields) {
        Ok(httparse::Status::Complete(found)) => found,
        Ok(httparse::Status::Partial) if buffer.len() <= MAX_TRAILERS => return Ok(Decoded::More),
        Ok(httparse::Status::Partial) => return Err(Malformed::new("trailers that do not end")),
        Err(_) => return Err(Malformed::new("a trailer")),
    };
    // As in all of a chunked body, a line feed alone ends no line, though httparse lets it.
    if memchr::memchr_iter(b'\n', &buffer[..end]).any(|at| at == 0 || buffer[at - 1] != b'\r') {
        return Err(Malformed::new("a trailer"));
    }
    let mut map = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::new("a trailer's name"))?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed::new("a trailer's value"))?;
        if may_trail(&name) {
            map.append(name, value);
        }
    }
    let _ = buffer.split_to(end);
    Ok(if map.is_empty() { Decoded::End } else { Decoded::Trailers(map) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes what comes in `pieces`; the body, its trailers, and what was left over.
    fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<(String, usize, String), Malformed> {
        let (mut decoder, mut buffer, mut body, mut trailers) = (Decoder::new(framing), BytesMut::new(), Vec::new(), 0);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.next(&mut buffer)? {
                    Decoded::Data(data) => body.extend_from_slice(&data),
                    Decoded::Trailers(map) => trailers += map.len(),
                    Decoded::End => break,
                    Decoded::More => break,
                }
            }
        }
        assert!(decoder.is_done(), "not done after {pieces:?}");
        Ok((String::from_utf8_lossy(&body).into_owned(), trailers, String::from_utf8_lossy(&buffer).into_owned()))
    }

    #[test]
    fn a_body_is_the_same_however_it_arrives() {
        let whole = b"5\r\nhello\r\nA;x=\"y\" \r\n, chunked!\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\nrest";
        let want = ("hello, chunked!".to_owned(), 2, "rest".to_owned());
        assert_eq!(decode(Framing::Chunked, &[whole]), Ok(want.clone()));
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(decode(Framing::Chunked, &bytes), Ok(want.clone()));
        for cut in 0..whole.len() {
            assert_eq!(decode(Framing::Chunked, &[&whole[..cut], &whole[cut..]]), Ok(want.clone()), "cut at {cut}");
        }
        let trailing = b"0\r\nx: 1\r\nTransfer-Encoding: x\r\nset-cookie: a\r\nx-witgate-error: y\r\n\r\n";
        assert_eq!(decode(Framing::Chunked, &[trailing]), Ok((String::new(), 1, String::new())), "one may be there");
        assert_eq!(decode(Framing::Length(5), &[b"he", b"llorest"]), Ok(("hello".into(), 0, "rest".into())));
        assert_eq!(decode(Framing::Length(0), &[b"rest"]), Ok((String::new(), 0, "rest".into())));
    }

    #[test]
    fn chunks_that_could_be_read_in_two_ways_are_refused() {
        for body in [
            "\r\n",
            ";\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\nx\r\n",
            "0x1\r\nx\r\n",
            "1\nx\r\n",
            "1\r\nxy",
            "1\r\nx\n",
            "5\rhello",
            "10000000000000000\r\n",
            "1;a\nb\r\n",
            "1 2\r\nx\r\n",
            "1;a\0\r\n",
            "0\r\n: a\r\n\r\n",
            "0\r\nx : a\r\n\r\n",
            "0\r\nx: a\r\n b\r\n\r\n",
            "0\r\nx: a\n\r\n",
            "0\r\nx: a\r\n\n",
            "0\r\n\n",
        ] {
            let (mut decoder, mut buffer) = (Decoder::new(Framing::Chunked), BytesMut::from(body));
            let outcome = loop {
                match decoder.next(&mut buffer) {
                    Ok(Decoded::Data(_)) => {}
                    other => break other,
                }
            };
            assert!(outcome.is_err(), "{body:?}: {outcome:?}");
        }
        for endless in [format!("1;{}", "x".repeat(MAX_EXTENSIONS + 1)), format!("1{}", " ".repeat(MAX_EXTENSIONS + 1))]
        {
            assert!(Decoder::new(Framing::Chunked).next(&mut BytesMut::from(&endless[..])).is_err());
        }
        let long = format!("0\r\nx: {}", "y".repeat(MAX_TRAILERS + 1));
        assert!(Decoder::new(Framing::Chunked).next(&mut BytesMut::from(&long[..])).is_err());
    }

    #[test]
    fn a_close_ends_only_what_it_may_end() {
        assert!(Decoder::new(Framing::Close).close());
        assert!(!Decoder::new(Framing::Length(1)).close());
        assert!(!Decoder::new(Framing::Chunked).close());
    }
}
