//! What a plugin may want to know of a request, and the list of it that a plugin declares. Holds names, never values.

use serde::Deserialize;

/// One fact about a request.
///
/// In a configuration it is written as routes write it in `split_by`: `{ cookie = "uid" }`, `{ header = "x-user" }`,
/// `{ query = "q" }` or a bare `"client-address"`, so `Vec<Field>` is a ready type for a `by = […]` key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// The method, in upper case: `GET`.
    Method,
    /// The path without the query, as it came: `/a%20b`.
    Path,
    /// The host the client asked for, in lower case and without a port.
    Host,
    /// `http` or `https`.
    Scheme,
    /// The client's IP address as text, after trusted proxies were looked through.
    ClientAddress,
    /// The query string without the `?`, as it came.
    QueryString,
    /// The first header of this name; case does not matter.
    Header(String),
    /// The first cookie of exactly this name.
    Cookie(String),
    /// The first query parameter of exactly this name, percent-decoded.
    Query(String),
}

/// A field that was declared, with what it is found by.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    key: Key,
    field: Field,
}

/// What tells a field from all others but those with long names. Words are compared at once; what compares names in a
/// component is a function that goes byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    /// The kind in the lowest byte, and the length of the name. Whole words: a component that writes a byte and reads the
    /// word around it waits for its memory.
    kind_and_len: u64,
    /// The first eight bytes of the name, or four; of three at most, all of them.
    first: u64,
    /// As many of the last.
    last: u64,
}

/// Bytes of the longest name that a key holds whole.
const KEY: usize = 16;

/// A field by borrowed name, so that `request.header("x")` allocates nothing.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) kind: Kind,
    /// Empty where the kind is all there is.
    pub(crate) text: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Method,
    Path,
    Host,
    Scheme,
    ClientAddress,
    QueryString,
    Header,
    Cookie,
    Query,
}

impl Field {
    #[inline]
    pub(crate) fn name(&self) -> Name<'_> {
        let (kind, text) = match self {
            Field::Method => (Kind::Method, ""),
            Field::Path => (Kind::Path, ""),
            Field::Host => (Kind::Host, ""),
            Field::Scheme => (Kind::Scheme, ""),
            Field::ClientAddress => (Kind::ClientAddress, ""),
            Field::QueryString => (Kind::QueryString, ""),
            Field::Header(name) => (Kind::Header, &**name),
            Field::Cookie(name) => (Kind::Cookie, &**name),
            Field::Query(name) => (Kind::Query, &**name),
        };
        Name { kind, text }
    }
}

impl<'a> Name<'a> {
    pub(crate) const METHOD: Self = Name { kind: Kind::Method, text: "" };
    pub(crate) const PATH: Self = Name { kind: Kind::Path, text: "" };
    pub(crate) const HOST: Self = Name { kind: Kind::Host, text: "" };
    pub(crate) const SCHEME: Self = Name { kind: Kind::Scheme, text: "" };
    pub(crate) const CLIENT_ADDRESS: Self = Name { kind: Kind::ClientAddress, text: "" };
    pub(crate) const QUERY_STRING: Self = Name { kind: Kind::QueryString, text: "" };

    #[inline]
    pub(crate) fn header(text: &'a str) -> Self {
        Name { kind: Kind::Header, text }
    }

    #[inline]
    pub(crate) fn cookie(text: &'a str) -> Self {
        Name { kind: Kind::Cookie, text }
    }

    #[inline]
    pub(crate) fn query(text: &'a str) -> Self {
        Name { kind: Kind::Query, text }
    }

    /// Whether both ask for the same fact: names of headers are compared without regard to case, others exactly.
    pub(crate) fn same(self, other: Name<'_>) -> bool {
        let same_text = match self.kind {
            Kind::Header => self.text.eq_ignore_ascii_case(other.text),
            _ => self.text == other.text,
        };
        self.kind == other.kind && same_text
    }

    #[inline]
    fn key(self) -> Key {
        let bytes = self.text.as_bytes();
        // Without a loop, at each turn of which a component looks at its deadline.
        let (first, last) = if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
        } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
        } else {
            match *bytes {
                [a, b, c] => (u32::from_le_bytes([a, b, c, 0]).into(), 0),
                [a, b] => (u32::from_le_bytes([a, b, 0, 0]).into(), 0),
                [a] => (a.into(), 0),
                _ => (0, 0),
            }
        };
        Key { kind_and_len: (bytes.len() as u64) << 8 | self.kind as u64, first, last }
    }

    pub(crate) fn owned(self) -> Field {
        match self.kind {
            Kind::Method => Field::Method,
            Kind::Path => Field::Path,
            Kind::Host => Field::Host,
            Kind::Scheme => Field::Scheme,
            Kind::ClientAddress => Field::ClientAddress,
            Kind::QueryString => Field::QueryString,
            Kind::Header => Field::Header(self.text.to_owned()),
            Kind::Cookie => Field::Cookie(self.text.to_owned()),
            Kind::Query => Field::Query(self.text.to_owned()),
        }
    }
}

impl Declared {
    /// The place of a field of this name among those that were declared.
    #[inline]
    pub(crate) fn find(declared: &[Declared], name: Name<'_>) -> Option<usize> {
        // Mostly it is asked for as it was declared.
        let key = name.key();
        match declared.iter().position(|known| known.key == key) {
            Some(at) if name.text.len() <= KEY => Some(at),
            _ => Self::find_slowly(declared, name.kind, name.text),
        }
    }

    // The parts of the name, which are passed in registers.
    #[cold]
    #[inline(never)]
    fn find_slowly(declared: &[Declared], kind: Kind, text: &str) -> Option<usize> {
        declared.iter().position(|known| known.field.name().same(Name { kind, text }))
    }

    pub(crate) fn name(&self) -> Name<'_> {
        self.field.name()
    }
}

impl From<Field> for Declared {
    fn from(field: Field) -> Self {
        Declared { key: field.name().key(), field }
    }
}

/// The fields that a plugin reads, declared once in [`Plugin::configure`](crate::Plugin::configure).
///
/// The host hands the value of each declared field over with every question, so that reading it is free. A field that
/// is not declared can still be read; each such read is a host call of its own (about 0.3 µs). Declaring a field twice
/// is the same as once. The host takes at most [`Fields::MAX`]; what is declared beyond is read by host calls.
#[derive(Debug, Default)]
pub struct Fields(Vec<Field>);

/// A declared field, by its place among the declared ones: [`Request::get`](crate::Request::get) reads it there, where
/// [`Request::header`](crate::Request::header) and the like look for the name first (some 10 ns).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(pub(crate) usize);

impl Fields {
    /// How many fields a manifest may name.
    pub const MAX: usize = 32;

    /// Declares any field, and answers with what it is read by.
    pub fn handle(&mut self, field: Field) -> Handle {
        let known = self.0.iter().position(|known| known.name().same(field.name()));
        Handle(known.unwrap_or_else(|| {
            self.0.push(field);
            self.0.len() - 1
        }))
    }

    /// Declares several fields, and answers with what they are read by.
    pub fn handles<'f>(&mut self, fields: impl IntoIterator<Item = &'f Field>) -> Vec<Handle> {
        fields.into_iter().map(|field| self.handle(field.clone())).collect()
    }

    /// Declares any field, for instance one that the configuration names.
    pub fn declare(&mut self, field: Field) -> &mut Self {
        self.handle(field);
        self
    }

    /// Declares several fields.
    pub fn declare_all<'f>(&mut self, fields: impl IntoIterator<Item = &'f Field>) -> &mut Self {
        fields.into_iter().fold(self, |declared, field| declared.declare(field.clone()))
    }

    /// Declares a header.
    pub fn header(&mut self, name: &str) -> &mut Self {
        self.declare(Field::Header(name.to_owned()))
    }

    /// Declares a cookie.
    pub fn cookie(&mut self, name: &str) -> &mut Self {
        self.declare(Field::Cookie(name.to_owned()))
    }

    /// Declares a query parameter.
    pub fn query(&mut self, name: &str) -> &mut Self {
        self.declare(Field::Query(name.to_owned()))
    }

    /// Declares the method.
    pub fn method(&mut self) -> &mut Self {
        self.declare(Field::Method)
    }

    /// Declares the path.
    pub fn path(&mut self) -> &mut Self {
        self.declare(Field::Path)
    }

    /// Declares the host.
    pub fn host(&mut self) -> &mut Self {
        self.declare(Field::Host)
    }

    /// Declares the scheme.
    pub fn scheme(&mut self) -> &mut Self {
        self.declare(Field::Scheme)
    }

    /// Declares the client's address.
    pub fn client_address(&mut self) -> &mut Self {
        self.declare(Field::ClientAddress)
    }

    /// Declares the query string.
    pub fn query_string(&mut self) -> &mut Self {
        self.declare(Field::QueryString)
    }

    /// All that were declared, and those of them that the manifest names.
    pub(crate) fn into_parts(self) -> (Vec<Declared>, Vec<Field>) {
        let declared = self.0.iter().cloned().map(Declared::from).collect();
        let mut manifest = self.0;
        manifest.truncate(Self::MAX);
        (declared, manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names as long as the words that they are compared by, one less, one more, and alike but for one byte.
    #[test]
    fn what_was_declared_is_found_and_nothing_else() {
        let lengths = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 40];
        let mut names: Vec<String> = lengths.map(|len| "abcdefgh".repeat(5)[..len].to_owned()).into();
        names.extend(lengths.iter().flat_map(|&len| {
            (0..len).map(move |at| {
                let mut other = "abcdefgh".repeat(5)[..len].to_owned();
                other.replace_range(at..=at, "x");
                other
            })
        }));
        let kinds = [Field::Header, Field::Cookie, Field::Query];
        let fields: Vec<Field> = kinds.iter().flat_map(|kind| names.iter().cloned().map(kind)).collect();
        let declared: Vec<Declared> = fields.iter().cloned().map(Declared::from).collect();
        for (at, field) in fields.iter().enumerate() {
            assert_eq!(Declared::find(&declared, field.name()), Some(at), "{field:?}");
        }
        for len in lengths.into_iter().filter(|&len| len > 0) {
            let shout = "ABCDEFGH".repeat(5)[..len].to_owned();
            let header = Field::Header(shout.to_ascii_lowercase());
            let at = fields.iter().position(|field| *field == header);
            assert_eq!(Declared::find(&declared, Name::header(&shout)), at, "case does not matter: {shout}");
            assert_eq!(Declared::find(&declared, Name::cookie(&shout)), None, "it does here: {shout}");
        }
        assert_eq!(Declared::find(&declared, Name::PATH), None);
    }
}
