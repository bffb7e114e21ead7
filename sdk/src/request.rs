//! The request as a plugin sees it. Never copies a value: declared fields are borrowed from what the host handed over.

use core::cell::OnceCell;
use core::mem::ManuallyDrop;

use crate::field::{Declared, Field, Handle, Kind, Name};

/// The value of a declared field: natively as a test gives it, in a component as it lies in memory.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Value = Option<String>;
#[cfg(target_arch = "wasm32")]
pub(crate) use crate::component::Value;

/// A view of the request that a question is about.
///
/// Fields that the plugin declared are found among the values that crossed with the question and cost a few
/// nanoseconds. Any other field is fetched from the host at its first read and kept for the rest of the question.
pub struct Request<'a> {
    declared: &'a [Declared],
    values: &'a [Value],
    fetch: &'a dyn Fn(&Field) -> Option<String>,
    fetched: ManuallyDrop<OnceCell<Box<Fetched>>>,
}

/// A list that only grows, so that a value can be lent out for as long as the request while more are fetched.
struct Fetched {
    field: Field,
    value: Option<String>,
    next: OnceCell<Box<Fetched>>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(
        declared: &'a [Declared],
        values: &'a [Value],
        fetch: &'a dyn Fn(&Field) -> Option<String>,
    ) -> Self {
        Request { declared, values, fetch, fetched: ManuallyDrop::default() }
    }

    /// The method, in upper case: `GET`.
    #[inline]
    pub fn method(&self) -> &str {
        self.find(Name::METHOD).unwrap_or_default()
    }

    /// The path without the query, as it came (not percent-decoded).
    #[inline]
    pub fn path(&self) -> &str {
        self.find(Name::PATH).unwrap_or_default()
    }

    /// The host the client asked for, in lower case and without a port; empty where the request names none.
    #[inline]
    pub fn host(&self) -> &str {
        self.find(Name::HOST).unwrap_or_default()
    }

    /// `http` or `https`.
    #[inline]
    pub fn scheme(&self) -> &str {
        self.find(Name::SCHEME).unwrap_or_default()
    }

    /// The client's IP address as text: `203.0.113.7`, `2001:db8::1`.
    #[inline]
    pub fn client_address(&self) -> &str {
        self.find(Name::CLIENT_ADDRESS).unwrap_or_default()
    }

    /// The query string without the `?`, as it came.
    #[inline]
    pub fn query_string(&self) -> Option<&str> {
        self.find(Name::QUERY_STRING)
    }

    /// The first header of this name; case does not matter.
    #[inline]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.find(Name::header(name))
    }

    /// The first cookie of exactly this name.
    #[inline]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.find(Name::cookie(name))
    }

    /// The first query parameter of exactly this name, percent-decoded.
    #[inline]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.find(Name::query(name))
    }

    /// Any field, for instance one that the configuration names.
    #[inline]
    pub fn field(&self, field: &Field) -> Option<&str> {
        self.find(field.name())
    }

    /// A field that was declared with [`Fields::handle`](crate::Fields::handle). The handle of another plugin, or of another
    /// configuration, leads to another field or to none.
    #[inline]
    pub fn get(&self, handle: Handle) -> Option<&str> {
        match self.values.get(handle.0) {
            Some(value) => value.as_deref(),
            None => self.beyond(handle),
        }
    }

    /// The first of these declared fields that the request has with a value that is not empty: as [`first`](Self::first).
    #[inline]
    pub fn first_of(&self, handles: &[Handle]) -> Option<&str> {
        handles.iter().filter_map(|handle| self.get(*handle)).find(|value| !value.is_empty())
    }

    /// The first of these fields that the request has with a value that is not empty: the usual meaning of `by = […]`.
    #[inline]
    pub fn first(&self, fields: &[Field]) -> Option<&str> {
        fields.iter().filter_map(|field| self.field(field)).find(|value| !value.is_empty())
    }

    // Part of whoever asks, with what is declared: each function that is called costs a component some thirty instructions,
    // for its stack and for its deadline.
    #[inline(always)]
    fn find(&self, name: Name<'_>) -> Option<&str> {
        match Declared::find(self.declared, name).and_then(|at| self.values.get(at)) {
            Some(value) => value.as_deref(),
            None => self.fetch(name.kind, name.text),
        }
    }

    /// One that was declared beyond what a manifest holds.
    #[cold]
    #[inline(never)]
    fn beyond(&self, handle: Handle) -> Option<&str> {
        let name = self.declared.get(handle.0)?.name();
        self.fetch(name.kind, name.text)
    }

    // The parts of the name, which are passed in registers: a name in memory is written in parts and copied as a whole, for
    // which the processor waits.
    #[cold]
    #[inline(never)]
    fn fetch(&self, kind: Kind, text: &str) -> Option<&str> {
        let name = Name { kind, text };
        let mut place = &*self.fetched;
        while let Some(known) = place.get() {
            if known.field.name().same(name) {
                return known.value.as_deref();
            }
            place = &known.next;
        }
        let added = place.get_or_init(|| {
            let field = name.owned();
            Box::new(Fetched { value: (self.fetch)(&field), field, next: OnceCell::new() })
        });
        added.value.as_deref()
    }
}

impl Drop for Request<'_> {
    // Mostly there is nothing to free, and not worth a call to find that out.
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(fetched) = self.fetched.take() {
            free(fetched);
        }
    }
}

#[cold]
#[inline(never)]
fn free(fetched: Box<Fetched>) {
    drop(fetched);
}
