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

/// A field by borrowed name: what a lookup compares, so that `request.header("x")` allocates nothing.
#[derive(Clone, Copy)]
pub(crate) enum Name<'a> {
    Method,
    Path,
    Host,
    Scheme,
    ClientAddress,
    QueryString,
    Header(&'a str),
    Cookie(&'a str),
    Query(&'a str),
}

impl Field {
    pub(crate) fn name(&self) -> Name<'_> {
        match self {
            Field::Method => Name::Method,
            Field::Path => Name::Path,
            Field::Host => Name::Host,
            Field::Scheme => Name::Scheme,
            Field::ClientAddress => Name::ClientAddress,
            Field::QueryString => Name::QueryString,
            Field::Header(name) => Name::Header(name),
            Field::Cookie(name) => Name::Cookie(name),
            Field::Query(name) => Name::Query(name),
        }
    }
}

impl Name<'_> {
    /// Whether both ask for the same fact: names of headers are compared without regard to case, others exactly.
    pub(crate) fn same(self, other: Name<'_>) -> bool {
        match (self, other) {
            (Name::Header(a), Name::Header(b)) => a.eq_ignore_ascii_case(b),
            (Name::Cookie(a), Name::Cookie(b)) | (Name::Query(a), Name::Query(b)) => a == b,
            (a, b) => core::mem::discriminant(&a) == core::mem::discriminant(&b),
        }
    }

    pub(crate) fn owned(self) -> Field {
        match self {
            Name::Method => Field::Method,
            Name::Path => Field::Path,
            Name::Host => Field::Host,
            Name::Scheme => Field::Scheme,
            Name::ClientAddress => Field::ClientAddress,
            Name::QueryString => Field::QueryString,
            Name::Header(name) => Field::Header(name.to_owned()),
            Name::Cookie(name) => Field::Cookie(name.to_owned()),
            Name::Query(name) => Field::Query(name.to_owned()),
        }
    }
}

/// The fields that a plugin reads, declared once in [`Plugin::configure`](crate::Plugin::configure).
///
/// The host hands the value of each declared field over with every question, so that reading it is free. A field that
/// is not declared can still be read; each such read is a host call of its own (about 0.3 µs). Declaring a field twice
/// is the same as once. The host takes at most [`Fields::MAX`]; what is declared beyond is read by host calls.
#[derive(Debug, Default)]
pub struct Fields(Vec<Field>);

impl Fields {
    /// How many fields a manifest may name.
    pub const MAX: usize = 32;

    /// Declares any field, for instance one that the configuration names.
    pub fn declare(&mut self, field: Field) -> &mut Self {
        if self.0.len() < Self::MAX && !self.0.iter().any(|known| known.name().same(field.name())) {
            self.0.push(field);
        }
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

    pub(crate) fn into_vec(self) -> Vec<Field> {
        self.0
    }
}
