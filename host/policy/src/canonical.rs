//! The component model's canonical ABI over plain bytes: how a plugin's answer lies in its memory. Reads only what is
//! inside the memory, valid and within the allowance; it must never trust a pointer, a length or a discriminant.
//!
//! Layouts are those of the component model's `CanonicalABI.md` (alignment, size, lifting), which a test compares with
//! wit-parser's.

use witgate_core::answer::{RawAction, RawCookie, RawRoute, RawStick, SameSite};

use crate::bindings::types::{Field, Manifest};

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unreadable {
    #[error("a pointer leads out of the memory")]
    OutOfBounds,
    #[error("a pointer is not aligned")]
    Unaligned,
    #[error("a discriminant is none of its type's")]
    Discriminant,
    #[error("a string is not UTF-8")]
    NotUtf8,
    #[error("more than {0} bytes")]
    TooLarge(usize),
}

type Result<T> = std::result::Result<T, Unreadable>;

/// A guest's memory while an answer is read from it.
pub(crate) struct Answer<'m> {
    memory: &'m [u8],
    /// Bytes that may still be copied out: overlapping lists in a small memory could stand for terabytes.
    left: usize,
    allowance: usize,
}

impl<'m> Answer<'m> {
    pub(crate) fn new(memory: &'m [u8], allowance: usize) -> Self {
        Self { memory, left: allowance, allowance }
    }

    /// A value at `at`.
    pub(crate) fn at<T: Lift>(&mut self, at: u32) -> Result<T> {
        if !at.is_multiple_of(T::ALIGN) {
            return Err(Unreadable::Unaligned);
        }
        let value = self.slice(at, T::SIZE)?;
        T::lift(self, value)
    }

    /// Text at `at`, in place.
    pub(crate) fn text(&mut self, at: u32, len: u32) -> Result<&'m str> {
        let bytes = self.slice(at, len)?;
        self.charge(bytes.len())?;
        std::str::from_utf8(bytes).map_err(|_| Unreadable::NotUtf8)
    }

    fn list<T: Lift>(&mut self, at: u32, len: u32) -> Result<Vec<T>> {
        if !at.is_multiple_of(T::ALIGN) {
            return Err(Unreadable::Unaligned);
        }
        let size = len.checked_mul(T::SIZE).ok_or(Unreadable::OutOfBounds)?;
        let elements = self.slice(at, size)?;
        self.charge((len as usize).saturating_mul(size_of::<T>()))?;
        T::lift_all(self, elements)
    }

    fn slice(&self, at: u32, len: u32) -> Result<&'m [u8]> {
        self.memory.get(at as usize..).and_then(|rest| rest.get(..len as usize)).ok_or(Unreadable::OutOfBounds)
    }

    fn charge(&mut self, bytes: usize) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or(Unreadable::TooLarge(self.allowance))?;
        Ok(())
    }
}

/// A type that can be read from a guest's memory.
pub(crate) trait Lift: Sized {
    const SIZE: u32;
    const ALIGN: u32;
    /// Reads a value whose own bytes are `value`: exactly `SIZE` of them.
    fn lift(from: &mut Answer<'_>, value: &[u8]) -> Result<Self>;
    /// Reads values that lie side by side.
    fn lift_all(from: &mut Answer<'_>, values: &[u8]) -> Result<Vec<Self>> {
        let mut all = Vec::with_capacity(values.len() / Self::SIZE as usize);
        for value in values.chunks_exact(Self::SIZE as usize) {
            all.push(Self::lift(from, value)?);
        }
        Ok(all)
    }
}

/// The field of type `T` at `offset` within a value.
fn field<T: Lift>(from: &mut Answer<'_>, value: &[u8], offset: u32) -> Result<T> {
    let field = value.get(offset as usize..).and_then(|rest| rest.get(..T::SIZE as usize));
    T::lift(from, field.ok_or(Unreadable::OutOfBounds)?)
}

const fn up(offset: u32, align: u32) -> u32 {
    offset.next_multiple_of(align)
}

const fn max(a: u32, b: u32) -> u32 {
    if a > b { a } else { b }
}

macro_rules! number {
    ($($ty:ty),+) => {$(
        impl Lift for $ty {
            const SIZE: u32 = size_of::<$ty>() as u32;
            const ALIGN: u32 = Self::SIZE;
            fn lift(_: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
                value.try_into().map(<$ty>::from_le_bytes).map_err(|_| Unreadable::OutOfBounds)
            }
            // Nothing to go wrong with one by one, so that they are copied together.
            fn lift_all(_: &mut Answer<'_>, values: &[u8]) -> Result<Vec<Self>> {
                Ok(values.as_chunks().0.iter().map(|value| <$ty>::from_le_bytes(*value)).collect())
            }
        }
    )+};
}
number!(u8, u16, u32, u64, f32);

impl Lift for bool {
    const SIZE: u32 = 1;
    const ALIGN: u32 = 1;
    fn lift(from: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
        u8::lift(from, value).map(|byte| byte != 0)
    }
}

impl Lift for String {
    const SIZE: u32 = 8;
    const ALIGN: u32 = 4;
    fn lift(from: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
        let (at, len) = (field(from, value, 0)?, field(from, value, 4)?);
        from.text(at, len).map(str::to_owned)
    }
}

impl<T: Lift> Lift for Vec<T> {
    const SIZE: u32 = 8;
    const ALIGN: u32 = 4;
    fn lift(from: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
        let (at, len) = (field(from, value, 0)?, field(from, value, 4)?);
        from.list(at, len)
    }
}

impl<T: Lift> Lift for Option<T> {
    const SIZE: u32 = up(up(1, T::ALIGN) + T::SIZE, Self::ALIGN);
    const ALIGN: u32 = T::ALIGN;
    fn lift(from: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
        match value.first() {
            Some(0) => Ok(None),
            Some(1) => field(from, value, up(1, T::ALIGN)).map(Some),
            _ => Err(Unreadable::Discriminant),
        }
    }
}

impl<T: Lift, E: Lift> Lift for std::result::Result<T, E> {
    const SIZE: u32 = up(up(1, Self::ALIGN) + max(T::SIZE, E::SIZE), Self::ALIGN);
    const ALIGN: u32 = max(T::ALIGN, E::ALIGN);
    fn lift(from: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
        match value.first() {
            Some(0) => field(from, value, up(1, Self::ALIGN)).map(Ok),
            Some(1) => field(from, value, up(1, Self::ALIGN)).map(Err),
            _ => Err(Unreadable::Discriminant),
        }
    }
}

/// Records and tuples: fields in order, each at its alignment.
macro_rules! tuple {
    ($($name:ident)+) => {
        impl<$($name: Lift),+> Lift for ($($name,)+) {
            const SIZE: u32 = {
                let mut end = 0;
                $(end = up(end, $name::ALIGN) + $name::SIZE;)+
                up(end, Self::ALIGN)
            };
            const ALIGN: u32 = {
                let mut align = 1;
                $(align = max(align, $name::ALIGN);)+
                align
            };
            fn lift(from: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
                let mut end = 0;
                Ok(($({
                    let at = up(end, $name::ALIGN);
                    end = at + $name::SIZE;
                    let _ = end; // The last one is nobody's offset.
                    field::<$name>(from, value, at)?
                },)+))
            }
        }
    };
}
tuple!(A B);
tuple!(A B C);
tuple!(A B C D E F G);

type Headers = Vec<(String, String)>;
type Respond = (u16, Headers, String);
type Redirect = (u16, String);

impl Lift for RawAction {
    const SIZE: u32 = up(up(1, Self::ALIGN) + max(String::SIZE, max(Respond::SIZE, Redirect::SIZE)), Self::ALIGN);
    const ALIGN: u32 = max(String::ALIGN, max(Respond::ALIGN, Redirect::ALIGN));
    fn lift(from: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
        let payload = up(1, Self::ALIGN);
        Ok(match value.first() {
            Some(0) => Self::Pass,
            Some(1) => Self::Cluster(field(from, value, payload)?),
            Some(2) => {
                let (status, headers, body) = field::<Respond>(from, value, payload)?;
                Self::Respond { status, headers, body }
            }
            Some(3) => {
                let (status, location) = field::<Redirect>(from, value, payload)?;
                Self::Redirect { status, location }
            }
            _ => return Err(Unreadable::Discriminant),
        })
    }
}

/// A record that has the layout of a tuple.
macro_rules! record {
    ($ty:ty = $tuple:ty, $pattern:pat => $value:expr) => {
        impl Lift for $ty {
            const SIZE: u32 = <$tuple>::SIZE;
            const ALIGN: u32 = <$tuple>::ALIGN;
            fn lift(from: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
                let $pattern = <$tuple>::lift(from, value)?;
                Ok($value)
            }
        }
    };
}
record!(RawRoute = (RawAction, Headers, Vec<String>), (action, set_headers, remove_headers) => {
    RawRoute { action, set_headers, remove_headers }
});
record!(RawStick = (String, Option<RawCookie>), (key, set_cookie) => RawStick { key, set_cookie });
record!(
    RawCookie = (String, String, Option<u64>, Option<String>, bool, bool, Option<SameSite>),
    (name, value, max_age, path, secure, http_only, same_site) => {
        RawCookie { name, value, max_age, path, secure, http_only, same_site }
    }
);

impl Lift for SameSite {
    const SIZE: u32 = 1;
    const ALIGN: u32 = 1;
    fn lift(_: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
        match value {
            [0] => Ok(Self::Strict),
            [1] => Ok(Self::Lax),
            [2] => Ok(Self::None),
            _ => Err(Unreadable::Discriminant),
        }
    }
}

impl Lift for Field {
    const SIZE: u32 = up(1, Self::ALIGN) + String::SIZE;
    const ALIGN: u32 = String::ALIGN;
    fn lift(from: &mut Answer<'_>, value: &[u8]) -> Result<Self> {
        let discriminant = u32::from(*value.first().ok_or(Unreadable::OutOfBounds)?);
        let (at, len) = (field(from, value, 4)?, field(from, value, 8)?);
        named_field(from, discriminant, at, len)
    }
}

/// A field of which the parts are at hand, as the arguments of a host call are.
pub(crate) fn named_field(from: &mut Answer<'_>, discriminant: u32, at: u32, len: u32) -> Result<Field> {
    let mut name = || from.text(at, len).map(str::to_owned);
    Ok(match discriminant {
        0 => Field::Method,
        1 => Field::Path,
        2 => Field::Host,
        3 => Field::Scheme,
        4 => Field::ClientAddress,
        5 => Field::QueryString,
        6 => Field::Header(name()?),
        7 => Field::Cookie(name()?),
        8 => Field::Query(name()?),
        _ => return Err(Unreadable::Discriminant),
    })
}
record!(Manifest = Vec<Field>, fields => Manifest { fields });

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use wit_parser::{Resolve, SizeAlign, Type};

    /// Size and alignment as wit-parser computes them from the contract itself.
    fn of_contract(interface: &str, name: &str) -> (u32, u32) {
        let mut resolve = Resolve::default();
        resolve.push_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")).expect("the contract parses");
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let interface = resolve.interfaces.iter().find(|(_, i)| i.name.as_deref() == Some(interface)).expect("there").1;
        let ty = Type::Id(*interface.types.get(name).expect("there"));
        let narrow = |n: usize| u32::try_from(n).expect("small");
        (narrow(sizes.size(&ty).size_wasm32()), narrow(sizes.align(&ty).align_wasm32()))
    }

    #[test]
    fn layouts_are_the_contracts() {
        fn own<T: Lift>() -> (u32, u32) {
            (T::SIZE, T::ALIGN)
        }
        assert_eq!(own::<RawRoute>(), of_contract("router", "decision"));
        assert_eq!(own::<RawAction>(), of_contract("router", "action"));
        assert_eq!(own::<Respond>(), of_contract("router", "response"));
        assert_eq!(own::<Redirect>(), of_contract("router", "redirect"));
        assert_eq!(own::<RawStick>(), of_contract("affinity", "sticky"));
        assert_eq!(own::<RawCookie>(), of_contract("affinity", "cookie"));
        assert_eq!(own::<SameSite>(), of_contract("affinity", "same-site"));
        assert_eq!(own::<Field>(), of_contract("types", "field"));
        assert_eq!(own::<Manifest>(), of_contract("types", "manifest"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let memory = [1, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        let mut answer = Answer::new(&memory, 64);
        assert_eq!(answer.at::<Option<u32>>(0), Ok(Some(8)));
        assert_eq!(answer.at::<String>(4), Ok("\u{2}\0".to_owned()));
        assert_eq!(answer.at::<String>(2), Err(Unreadable::Unaligned));
        assert_eq!(answer.at::<String>(8), Err(Unreadable::OutOfBounds));
        assert_eq!(answer.at::<String>(12), Err(Unreadable::OutOfBounds));
        assert_eq!(answer.at::<Option<u32>>(8), Err(Unreadable::Discriminant));
        assert_eq!(answer.text(12, 4), Err(Unreadable::NotUtf8));
        assert_eq!(Answer::new(&memory, 1).text(8, 2), Err(Unreadable::TooLarge(1)));
    }
}
