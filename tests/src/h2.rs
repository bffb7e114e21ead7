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

/// The kind of a GOAWAY frame.
pub const GOAWAY: u8 = 7;

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
