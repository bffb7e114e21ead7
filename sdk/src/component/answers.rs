//! Answers as the host reads them from this memory, in the layouts of the canonical ABI. They stay where they are until the
//! next answer takes their place, so that nobody has to be told when one was read.

use core::cell::RefCell;

use crate::affinity::{Cookie, SameSite, Sticky};
use crate::router::{Action, Decision};

/// The last answer to one question. `A` is what the words point into; `W` words, in pairs for what is aligned to eight bytes.
pub(super) struct Kept<A, const W: usize>(RefCell<Answer<A, W>>);

struct Answer<A, const W: usize> {
    words: Words<W>,
    answer: Option<A>,
}

#[repr(align(8))]
struct Words<const W: usize>([u32; W]);

impl<A, const W: usize> Kept<A, W> {
    pub(super) const fn new() -> Self {
        Kept(RefCell::new(Answer { words: Words([0; W]), answer: None }))
    }

    /// Keeps the answer in place of the last one, and has its words written; where they are.
    pub(super) fn put(&self, answer: A, write: impl FnOnce(&A, &mut [u32; W])) -> *mut u8 {
        let kept = &mut *self.0.borrow_mut();
        write(kept.answer.insert(answer), &mut kept.words.0);
        kept.words.0.as_mut_ptr().cast()
    }

    /// Leaves zeros for an answer, and nothing that they point to.
    fn zero(&self) -> *mut u8 {
        let kept = &mut *self.0.borrow_mut();
        kept.words.0 = [0; W];
        if kept.answer.is_some() {
            kept.answer = None;
        }
        kept.words.0.as_mut_ptr().cast()
    }
}

impl Kept<Routed, ROUTED> {
    /// Keeps a decision. One that has no opinion, as most have, stays where it is: a component writes a value in parts and
    /// copies it as a whole, for which the processor waits.
    #[inline(always)]
    pub(super) fn put_decision(&self, decision: Decision) -> *mut u8 {
        let changes = decision.set_headers.len() + decision.remove_headers.len();
        if matches!(decision.action, Action::Pass) && changes == 0 {
            return self.zero(); // Zero is the number of `pass`, and the length of an empty list.
        }
        self.put(Routed::new(decision), Routed::write)
    }
}

/// `router.decision`, with the lists as they have to lie in memory.
pub(super) struct Routed {
    decision: Decision,
    /// None where all of them are empty, as they mostly are.
    lists: Option<Box<Lists>>,
}

struct Lists {
    set: Vec<[u32; 4]>,
    remove: Vec<[u32; 2]>,
    headers: Vec<[u32; 4]>,
}

pub(super) const ROUTED: usize = 10;

impl Routed {
    pub(super) fn new(decision: Decision) -> Self {
        let headers = match &decision.action {
            Action::Respond { headers, .. } => &headers[..],
            Action::Pass | Action::Cluster(_) | Action::Redirect { .. } => &[],
        };
        let Decision { set_headers: set, remove_headers: remove, .. } = &decision;
        let lists = (!set.is_empty() || !remove.is_empty() || !headers.is_empty()).then(|| {
            let remove = remove.iter().map(|name| text(name)).collect();
            Box::new(Lists { set: pairs(set), remove, headers: pairs(headers) })
        });
        Routed { decision, lists }
    }

    pub(super) fn write(&self, to: &mut [u32; ROUTED]) {
        let [action, payload @ ..] = to;
        let [set, remove, headers] = match &self.lists {
            Some(lists) => [list(&lists.set), list(&lists.remove), list(&lists.headers)],
            None => [list::<u32>(&[]); 3],
        };
        *action = match &self.decision.action {
            Action::Pass => 0,
            Action::Cluster(name) => {
                [payload[0], payload[1]] = text(name);
                1
            }
            Action::Respond { status, body, .. } => {
                payload[0] = u32::from(*status);
                [payload[1], payload[2]] = headers;
                [payload[3], payload[4]] = text(body);
                2
            }
            Action::Redirect { status, location } => {
                payload[0] = u32::from(*status);
                [payload[1], payload[2]] = text(location);
                3
            }
        };
        [payload[5], payload[6]] = set;
        [payload[7], payload[8]] = remove;
    }
}

/// `option<u32>`.
pub(super) fn choice(choice: Option<usize>, to: &mut [u32; 2]) {
    // An index beyond u32 was not offered: the host says so for u32::MAX as well.
    let index = choice.map(|index| u32::try_from(index).unwrap_or(u32::MAX));
    *to = [u32::from(index.is_some()), index.unwrap_or(0)];
}

/// `option<affinity.sticky>`.
pub(super) fn stick(sticky: Option<&Sticky>, to: &mut [u32; 18]) {
    to[0] = u32::from(sticky.is_some());
    let Some(Sticky { key, set_cookie }) = sticky else { return };
    [to[2], to[3]] = text(key);
    to[4] = u32::from(set_cookie.is_some());
    let Some(cookie) = set_cookie else { return };
    let Cookie { name, value, max_age, path, secure, http_only, same_site } = &**cookie;
    [to[6], to[7]] = text(name);
    [to[8], to[9]] = text(value);
    to[10] = u32::from(max_age.is_some());
    let max_age = max_age.unwrap_or(0);
    [to[12], to[13]] = [max_age as u32, (max_age >> 32) as u32];
    to[14] = u32::from(path.is_some());
    [to[15], to[16]] = text(path.as_deref().unwrap_or(""));
    let same_site_is = match same_site {
        Some(SameSite::Strict) | None => 0,
        Some(SameSite::Lax) => 1,
        Some(SameSite::None) => 2,
    };
    to[17] = u32::from_le_bytes([(*secure).into(), (*http_only).into(), same_site.is_some().into(), same_site_is]);
}

/// `list<f32>`.
pub(super) fn scores(scores: &Vec<f32>, to: &mut [u32; 2]) {
    *to = list(scores);
}

fn pairs(headers: &[(String, String)]) -> Vec<[u32; 4]> {
    let pair = |(name, value): &(String, String)| {
        let ([name, name_len], [value, value_len]) = (text(name), text(value));
        [name, name_len, value, value_len]
    };
    headers.iter().map(pair).collect()
}

fn text(text: &str) -> [u32; 2] {
    list(text.as_bytes())
}

/// An address and a length. The host reads what lies there, which the compiler must know.
fn list<T>(list: &[T]) -> [u32; 2] {
    [list.as_ptr().expose_provenance() as u32, list.len() as u32]
}
