//! A chunked body that passes by: where it ends, told of the bytes alone, for whoever has to know where the next message begins
//! and reads no body. Refuses what the decoder refuses.

use super::{Chunked, Malformed, State};

/// Where in a chunked body those are who only look at it.
#[derive(Debug)]
pub struct Passing {
    chunked: Chunked,
    /// Behind the last chunk.
    trailers: Trailers,
}

#[derive(Debug, Clone, Copy)]
enum Trailers {
    /// Where a line begins.
    Begin,
    /// In a line.
    Line,
    /// The line feed of a line that has something in it.
    LineLf,
    /// The line feed of the empty one, which is the last.
    LastLf,
}

impl Passing {
    /// Before the first byte.
    pub fn new() -> Self {
        Self { chunked: Chunked { state: State::Size(0, false), extensions: 0 }, trailers: Trailers::Begin }
    }

    /// How many of `bytes`, which come next, there are up to the body's end. None: it does not end with them.
    ///
    /// # Errors
    /// It is no such body.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let State::Data(left) = &mut self.chunked.state {
                let here = (bytes.len() - at).min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= here as u64;
                at += here;
                if *left == 0 {
                    self.chunked.state = State::DataCr;
                }
                continue;
            }
            at += 1;
            if !matches!(self.chunked.state, State::Trailers) {
                self.chunked.state = self.chunked.step(byte)?;
                continue;
            }
            self.trailers = match (self.trailers, byte) {
                (Trailers::Begin, b'\r') => Trailers::LastLf,
                (Trailers::LastLf, b'\n') => return Ok(Some(at)),
                (Trailers::Line, b'\r') => Trailers::LineLf,
                (Trailers::LineLf, b'\n') => Trailers::Begin,
                (Trailers::LastLf | Trailers::LineLf, _) | (_, b'\n') => return Err(Malformed::new("a trailer")),
                (Trailers::Begin | Trailers::Line, _) => Trailers::Line,
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes of what comes in `pieces` are the body's; none where it does not end.
    fn length(pieces: &[&[u8]]) -> Result<Option<usize>, Malformed> {
        let (mut passing, mut before) = (Passing::new(), 0);
        for piece in pieces {
            if let Some(here) = passing.pass(piece)? {
                return Ok(Some(before + here));
            }
            before += piece.len();
        }
        Ok(None)
    }

    #[test]
    fn a_body_ends_where_it_ends_however_it_comes() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a=\"b\"\r\nhello\r\nA\r\n0\r\n\r\n\r\n\r\n.\r\n00 \r\nx-a: 1\r\nx-b: 2\r\n\r\n",
        ] {
            let whole = [body.as_bytes(), b"GET / HTTP/1.1\r\n\r\n"].concat();
            for cut in 0..=whole.len() {
                assert_eq!(length(&[&whole[..cut], &whole[cut..]]), Ok(Some(body.len())), "{body:?}, cut at {cut}");
            }
            let single: Vec<&[u8]> = whole.chunks(1).collect();
            assert_eq!(length(&single), Ok(Some(body.len())), "{body:?}");
            assert_eq!(length(&[&whole[..body.len() - 1]]), Ok(None), "{body:?}");
        }
    }

    #[test]
    fn what_is_no_such_body_is_refused() {
        for body in ["g\r\n", "1\r\nxy\r\n", "1\nx", "0\r\n\n", "0\r\nx: y\n\r\n", "0\r\n\rx", "0\r\nx: y\rz"] {
            assert!(length(&[body.as_bytes()]).is_err(), "{body:?}");
        }
    }
}
