//! HTTP/2 by hand: frames that no well-behaved client would send (RFC 9113 §4 and §6).

/// What a client says first: the preface, and an empty SETTINGS frame.
pub fn hello() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, b"")].concat()
}

/// One frame.
///
/// # Panics
/// When the payload is longer than one byte can tell.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, u8::try_from(payload.len()).expect("a short payload"), kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A request's HEADERS, which end the head: `fields` as HPACK's literals without index, names included (RFC 7541 §6.2.2).
///
/// # Panics
/// When they are too long.
pub fn headers(stream: u32, fields: &[(&str, &str)], end_stream: bool) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|len| *len < 127).expect("a short field"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(1, if end_stream { 5 } else { 4 }, stream, &block)
}

/// Kinds of frames.
pub const HEADERS: u8 = 1;
/// The end of one stream before its time.
pub const RST_STREAM: u8 = 3;
/// The end of the connection.
pub const GOAWAY: u8 = 7;

/// One frame as it was read.
#[derive(Debug)]
pub struct Frame {
    /// Of which kind.
    pub kind: u8,
    /// Of which stream; 0 is the connection.
    pub stream: u32,
    /// What it says.
    pub payload: Vec<u8>,
}

/// Bytes in front of a frame's payload.
pub const FRAME_HEAD: usize = 9;

/// What these say, and the payload's length.
///
/// # Panics
/// When there are fewer.
pub fn frame_head(bytes: &[u8]) -> (Frame, usize) {
    let number = |of: [u8; 4]| u32::from_be_bytes(of) as usize;
    let length = number([0, bytes[0], bytes[1], bytes[2]]);
    let stream = u32::from_be_bytes([bytes[5] & 0x7f, bytes[6], bytes[7], bytes[8]]);
    (Frame { kind: bytes[3], stream, payload: Vec::new() }, length)
}

/// The status in a block of a response's fields: the first of them, by its index, or by that of its name and three digits in
/// Huffman's code (RFC 7541 appendices A and B). Something else where that is not so.
pub fn status(block: &[u8]) -> String {
    // Sizes of the table may stand in front.
    let sizes = block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
    match block[sizes..] {
        [index @ 0x88..=0x8e, ..] => {
            ["200", "204", "206", "304", "400", "404", "500"][usize::from(index - 0x88)].to_owned()
        }
        [0x08 | 0x18 | 0x48, length, ref rest @ ..] if length & 0x80 != 0 => {
            let bits = rest.iter().take(3).fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << 8;
            let mut at = 0;
            let digits = (0..3).map(|_| {
                let (short, long) = ((bits << at) >> 27, (bits << at) >> 26);
                at += if short < 3 { 5 } else { 6 };
                if short < 3 { short } else { long.wrapping_sub(0x19).wrapping_add(3) }
            });
            digits.map(|digit| digit.to_string()).collect()
        }
        ref other => format!("{}", other.escape_ascii()),
    }
}

/// The kinds of the frames in what a server said, in their order.
pub fn kinds(mut frames: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [long, middle, low, kind, ..] = *frames {
        kinds.push(kind);
        let payload = u32::from_be_bytes([0, long, middle, low]) as usize;
        frames = frames.get(9 + payload..).unwrap_or_default();
    }
    kinds
}
