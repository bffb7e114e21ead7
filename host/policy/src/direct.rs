//! Core modules asked as core modules: the same contract in the same canonical ABI as through the component model's
//! own machinery, which costs 140 ns a call and 20 ns a string more. For modules that import nothing but the host's
//! functions, as those built with the SDK for `wasm32-unknown-unknown` do. What their embedded component type says was
//! checked before (`inspect.rs`); it must never run a module that was not.

use std::borrow::Cow;
use std::cell::Cell;

use wasmparser::{Encoding, ExternalKind, Parser, Payload};
use wasmtime::{
    AsContextMut, Caller, Engine, Extern, InstancePre, Linker, Memory, Module, Store, TypedFunc, WasmParams,
};
use witgate_core::answer::{RawRoute, RawStick};
use witgate_core::request::FieldName;

use crate::Exports;
use crate::bindings::types::Manifest;
use crate::bindings::{Columns, host};
use crate::canonical::{Answer, Lift, Unreadable, named_field};
use crate::guest::State;
use crate::inspect::{PACKAGE, VERSION};
use crate::instances::ANSWER;

type Result<T> = wasmtime::Result<T>;

const MEMORY: &str = "memory";
const REALLOC: &str = "cabi_realloc";
/// Of modules built with the SDK: `() -> u64`, the address (low half) and the length of a place that the host may write a
/// question's arguments to, without asking for each piece of memory. It is the host's from one answer to the next, and
/// whoever has it keeps each answer until the next question of its kind, so that nobody has to be told when it was read.
const ROOM: &str = "witgate_room";
/// Run after the start function, as a reactor's constructors are.
const INITIALIZE: &str = "_initialize";

/// What a core module calls its part of the contract; none where it cannot be asked directly.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Symbols {
    configure: String,
    route: Option<String>,
    split: Option<String>,
    stick: Option<String>,
    weigh: Option<String>,
    pick: Option<String>,
}

impl Symbols {
    /// Reads the names off a module's imports and exports. None also for a component, and for one that is damaged.
    pub(crate) fn of(module: &[u8]) -> Option<Self> {
        let (mut found, mut support) = (Self::default(), 0);
        for payload in Parser::new(0).parse_all(module) {
            match payload.ok()? {
                Payload::Version { encoding: Encoding::Component, .. } => return None,
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        interface("host", import.ok()?.module)?;
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.ok()?;
                        match (export.kind, export.name) {
                            (ExternalKind::Memory, MEMORY) | (ExternalKind::Func, REALLOC) => support += 1,
                            (ExternalKind::Func, name) => found.note(name),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        (support == 2 && !found.configure.is_empty()).then_some(found)
    }

    fn note(&mut self, name: &str) {
        let Some((path, function)) = name.split_once('#') else { return };
        let is = |name| interface(name, path).is_some();
        let own = || Some(name.to_owned());
        match function {
            "configure" if is("lifecycle") => name.clone_into(&mut self.configure),
            "route" if is("router") => self.route = own(),
            "split" if is("splitter") => self.split = own(),
            "stick" if is("affinity") => self.stick = own(),
            "weigh" if is("scorer") => self.weigh = own(),
            "pick" if is("scorer") => self.pick = own(),
            _ => {}
        }
    }

    pub(crate) fn exports(&self) -> Exports {
        Exports {
            router: self.route.is_some(),
            splitter: self.split.is_some(),
            affinity: self.stick.is_some(),
            scorer: self.weigh.is_some() && self.pick.is_some(),
        }
    }
}

/// Whether `name` is this interface of the contract at a version that this host asks.
fn interface(interface: &str, name: &str) -> Option<()> {
    let version = name.strip_prefix(PACKAGE)?.strip_prefix(interface)?.strip_prefix('@')?;
    version.starts_with(VERSION).then_some(())
}

/// A linked module and where its questions are.
pub(crate) struct Pre {
    pre: InstancePre<State>,
    symbols: Symbols,
}

impl Pre {
    pub(crate) fn new(engine: &Engine, module: &Module, symbols: Symbols) -> Result<Self> {
        let mut linker = Linker::new(engine);
        for import in module.imports() {
            link(&mut linker, import.module(), import.name())?;
        }
        Ok(Self { pre: linker.instantiate_pre(module)?, symbols })
    }

    /// Names of what the module imports, as a component of it would have them.
    pub(crate) fn imports(&self) -> Vec<String> {
        let mut names: Vec<_> = self.pre.module().imports().map(|import| import.module().to_owned()).collect();
        names.dedup();
        names
    }

    pub(crate) fn exports(&self) -> Exports {
        self.symbols.exports()
    }

    /// Makes an instance and runs its start functions.
    pub(crate) fn instantiate(&self, store: &mut Store<State>) -> Result<Guest> {
        let instance = self.pre.instantiate(&mut *store)?;
        if instance.get_func(&mut *store, INITIALIZE).is_some() {
            instance.get_typed_func::<(), ()>(&mut *store, INITIALIZE)?.call(&mut *store, ())?;
        }
        let memory = instance.get_memory(&mut *store, MEMORY);
        let memory = memory.ok_or_else(|| wasmtime::format_err!("the module exports no memory"))?;
        let room = Room::find(store, &instance, &memory)?;
        let (symbols, keeps) = (&self.symbols, room.is_there());
        Ok(Guest {
            realloc: instance.get_typed_func(&mut *store, REALLOC)?,
            configure: Function::find(store, &instance, &symbols.configure, false)?,
            route: Function::optional(store, &instance, symbols.route.as_deref(), keeps)?,
            split: Function::optional(store, &instance, symbols.split.as_deref(), keeps)?,
            stick: Function::optional(store, &instance, symbols.stick.as_deref(), keeps)?,
            weigh: Function::optional(store, &instance, symbols.weigh.as_deref(), keeps)?,
            pick: Function::optional(store, &instance, symbols.pick.as_deref(), keeps)?,
            room,
            memory,
        })
    }
}

/// A pointer and a length: a list or a string.
type List = (u32, u32);

/// What `splitter.split` takes: the values, the offer's id, and its weights.
type Offer = (u32, u32, u64, u32, u32);

/// A function that answers with a pointer, and the one that wants to be told when the answer was read.
struct Function<P> {
    call: TypedFunc<P, u32>,
    done: Option<TypedFunc<u32, ()>>,
}

impl<P: WasmParams> Function<P> {
    /// `keeps`: what it answers with stays where it is until it is called again.
    fn find(store: &mut Store<State>, instance: &wasmtime::Instance, symbol: &str, keeps: bool) -> Result<Self> {
        let done = format!("cabi_post_{symbol}");
        let done = instance.get_func(&mut *store, &done).filter(|_| !keeps);
        let done = done.map(|func| func.typed(&*store)).transpose()?;
        Ok(Self { call: instance.get_typed_func(&mut *store, symbol)?, done })
    }

    fn optional(
        store: &mut Store<State>,
        instance: &wasmtime::Instance,
        symbol: Option<&str>,
        keeps: bool,
    ) -> Result<Option<Self>> {
        symbol.map(|symbol| Self::find(store, instance, symbol, keeps)).transpose()
    }
}

/// Where arguments are written; nowhere in modules that do not say.
#[derive(Default)]
struct Room {
    at: u32,
    end: u32,
    /// Where what is free of it begins, while it may be used. A cell, because the instance is borrowed for the time of a
    /// question.
    free: Cell<Option<u32>>,
}

impl Room {
    fn find(store: &mut Store<State>, instance: &wasmtime::Instance, memory: &Memory) -> Result<Self> {
        if instance.get_func(&mut *store, ROOM).is_none() {
            return Ok(Self::default());
        }
        let place = instance.get_typed_func::<(), u64>(&mut *store, ROOM)?.call(&mut *store, ())?;
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (at, len) = (place as u32, (place >> 32) as u32);
        fits(memory, &*store, at, 1, len)?;
        // Not for `configure`, which is no question: what it is given is the guest's to free.
        Ok(Self { at, end: at.saturating_add(len), free: Cell::new(None) })
    }

    fn is_there(&self) -> bool {
        self.end > self.at
    }

    /// Begins anew.
    fn empty(&self) {
        self.free.set(self.is_there().then_some(self.at));
    }

    fn take(&self, align: u32, bytes: u32) -> Option<u32> {
        let at = self.free.get()?.checked_next_multiple_of(align)?;
        let end = at.checked_add(bytes).filter(|end| *end <= self.end)?;
        self.free.set(Some(end));
        Some(at)
    }
}

/// One instance of a core module.
pub(crate) struct Guest {
    memory: Memory,
    room: Room,
    realloc: TypedFunc<(u32, u32, u32, u32), u32>,
    configure: Function<List>,
    route: Option<Function<List>>,
    split: Option<Function<Offer>>,
    stick: Option<Function<List>>,
    weigh: Option<Function<u32>>,
    pick: Option<Function<u32>>,
}

impl Guest {
    pub(crate) fn configure(
        &self,
        store: &mut Store<State>,
        config: &str,
    ) -> Result<std::result::Result<Manifest, String>> {
        let config = self.lower(store, 1, config.as_bytes())?;
        self.ask(store, &self.configure, config)
    }

    pub(crate) fn route(&self, store: &mut Store<State>, fields: &[FieldName]) -> Result<RawRoute> {
        let request = self.values(store, fields)?;
        self.ask(store, asked(&self.route)?, request)
    }

    pub(crate) fn split(
        &self,
        store: &mut Store<State>,
        fields: &[FieldName],
        offer: u64,
        weights: &[u32],
    ) -> Result<Option<u32>> {
        let request = self.values(store, fields)?;
        let weights = self.column(store, weights, u32::to_le_bytes)?;
        self.ask(store, asked(&self.split)?, (request.0, request.1, offer, weights.0, weights.1))
    }

    pub(crate) fn stick(&self, store: &mut Store<State>, fields: &[FieldName]) -> Result<Option<RawStick>> {
        let request = self.values(store, fields)?;
        self.ask(store, asked(&self.stick)?, request)
    }

    /// Seventeen flat parameters are one too many: they cross as a record in memory.
    pub(crate) fn weigh(&self, store: &mut Store<State>, now_ms: u64, endpoints: &Columns) -> Result<Vec<f32>> {
        let at = self.endpoints(store, 8, &now_ms.to_le_bytes(), endpoints)?;
        self.ask(store, asked(&self.weigh)?, at)
    }

    /// As [`Guest::weigh`].
    pub(crate) fn pick(&self, store: &mut Store<State>, fields: &[FieldName], endpoints: &Columns) -> Result<Vec<f32>> {
        let at = self.values(store, fields)?;
        let at = self.endpoints(store, 4, &pair(at), endpoints)?;
        self.ask(store, asked(&self.pick)?, at)
    }

    fn ask<P: WasmParams, R: Lift>(&self, store: &mut Store<State>, function: &Function<P>, params: P) -> Result<R> {
        let at = function.call.call(&mut *store, params)?;
        let answer = Answer::new(self.memory.data(&*store), ANSWER).at(at)?;
        if let Some(done) = &function.done {
            done.call(store, at)?;
        }
        self.room.empty();
        Ok(answer)
    }

    /// `list<option<string>>`: these fields of the request in question.
    fn values(&self, store: &mut Store<State>, fields: &[FieldName]) -> Result<List> {
        const OPTION: usize = 12;
        let (list, len) = self.room(store, 4, fields.len(), OPTION)?;
        for (n, name) in fields.iter().enumerate() {
            let mut option = [0; OPTION];
            if let Some(text) = self.field(store, name)? {
                option[0] = 1;
                option[4..].copy_from_slice(&pair(text));
            }
            // The list is inside the memory, which never shrinks.
            self.memory.data_mut(&mut *store)[list as usize + n * OPTION..][..OPTION].copy_from_slice(&option);
        }
        Ok((list, len))
    }

    /// Writes a field's value straight from the request; none where it has no such field.
    fn field(&self, store: &mut Store<State>, name: &FieldName) -> Result<Option<List>> {
        let (memory, state) = self.memory.data_and_store_mut(&mut *store);
        let address; // Formatted in place, where `Head::field` would allocate.
        let text = match name {
            FieldName::ClientAddress => {
                address = state.head.client_text();
                Cow::Borrowed(&*address)
            }
            name => match state.head.field(name) {
                Some(text) => text,
                None => return Ok(None),
            },
        };
        let len = u32::try_from(text.len())?;
        if let Some(at) = self.room.take(1, len) {
            memory[at as usize..][..text.len()].copy_from_slice(text.as_bytes());
            return Ok(Some((at, len)));
        }
        let text = text.into_owned(); // The guest is to be asked for a place, and the request lies in its store.
        self.lower(store, 1, text.as_bytes()).map(Some)
    }

    /// A record of eight bytes and the columns, which is all that crosses.
    fn endpoints(&self, store: &mut Store<State>, align: u32, first: &[u8; 8], columns: &Columns) -> Result<u32> {
        let (record, _) = self.room(store, align, 1, 72)?;
        let lists = [
            self.column(store, &columns.id, u64::to_le_bytes)?,
            self.column(store, &columns.in_flight, u32::to_le_bytes)?,
            self.column(store, &columns.latency_ms, f32::to_le_bytes)?,
            self.column(store, &columns.success_rate, f32::to_le_bytes)?,
            self.column(store, &columns.request_rate, f32::to_le_bytes)?,
            self.column(store, &columns.weight, u32::to_le_bytes)?,
            self.column(store, &columns.zone, u32::to_le_bytes)?,
            self.column(store, &columns.age_s, f32::to_le_bytes)?,
        ];
        let fields = std::iter::once(*first).chain(lists.map(pair));
        let place = &mut self.memory.data_mut(store)[record as usize..][..72];
        place.chunks_exact_mut(8).zip(fields).for_each(|(place, field)| place.copy_from_slice(&field));
        Ok(record)
    }

    fn column<T: Copy, const N: usize>(
        &self,
        store: &mut Store<State>,
        values: &[T],
        bytes: fn(T) -> [u8; N],
    ) -> Result<List> {
        #[expect(clippy::cast_possible_truncation, reason = "four or eight")]
        let (at, len) = self.room(store, N as u32, values.len(), N)?;
        let place = &mut self.memory.data_mut(store)[at as usize..][..values.len() * N];
        for (place, value) in place.chunks_exact_mut(N).zip(values) {
            place.copy_from_slice(&bytes(*value));
        }
        Ok((at, len))
    }

    fn lower(&self, store: &mut Store<State>, align: u32, bytes: &[u8]) -> Result<List> {
        let (at, len) = self.room(store, align, bytes.len(), 1)?;
        self.memory.data_mut(store)[at as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok((at, len))
    }

    /// A place for `len` elements: in the room, or else where the guest says. What comes back lies inside the memory.
    fn room(&self, store: &mut Store<State>, align: u32, len: usize, each: usize) -> Result<List> {
        let bytes = u32::try_from(len.saturating_mul(each))?;
        if let Some(at) = self.room.take(align, bytes) {
            return Ok((at, u32::try_from(len)?)); // Of a memory that never shrinks.
        }
        let at = self.realloc.call(&mut *store, (0, 0, align, bytes))?;
        fits(&self.memory, &*store, at, align, bytes)?;
        Ok((at, u32::try_from(len)?))
    }
}

fn asked<P>(function: &Option<Function<P>>) -> Result<&Function<P>> {
    function.as_ref().ok_or_else(|| wasmtime::format_err!("the plugin does not export this interface"))
}

fn pair((at, len): List) -> [u8; 8] {
    (u64::from(len) << 32 | u64::from(at)).to_le_bytes()
}

fn fits(memory: &Memory, store: impl wasmtime::AsContext, at: u32, align: u32, bytes: u32) -> Result<()> {
    if !at.is_multiple_of(align) {
        return Err(Unreadable::Unaligned.into());
    }
    if u64::from(at) + u64::from(bytes) > memory.data_size(&store) as u64 {
        return Err(Unreadable::OutOfBounds.into());
    }
    Ok(())
}

/// Gives a module one of the host's functions, in the flat shape of the canonical ABI.
fn link(linker: &mut Linker<State>, module: &str, name: &str) -> Result<()> {
    match name {
        "log" => linker.func_wrap(module, name, |mut cx: Caller<'_, State>, level: u32, at: u32, len: u32| {
            let level = level_of(level)?;
            let (memory, state) = memory(&mut cx)?.data_and_store_mut(&mut cx);
            let message = Answer::new(memory, ANSWER).text(at, len)?.to_owned();
            host::Host::log(state, level, message);
            Ok(())
        })?,
        "field" => {
            linker.func_wrap(module, name, |mut cx: Caller<'_, State>, field: u32, at: u32, len: u32, to: u32| {
                let (memory, state) = memory(&mut cx)?.data_and_store_mut(&mut cx);
                let field = named_field(&mut Answer::new(memory, ANSWER), field, at, len)?;
                let value = host::Host::field(state, field);
                let mut option = [0; 12];
                if let Some(text) = value {
                    option[0] = 1;
                    option[4..].copy_from_slice(&pair(give(&mut cx, text.as_bytes())?));
                }
                put(&mut cx, to, &option)
            })?
        }
        "offered-clusters" => linker.func_wrap(module, name, |mut cx: Caller<'_, State>, to: u32| {
            let names = host::Host::offered_clusters(cx.data_mut());
            let mut lists = Vec::with_capacity(names.len() * 8);
            for name in &names {
                lists.extend_from_slice(&pair(give(&mut cx, name.as_bytes())?));
            }
            let at = give_aligned(&mut cx, 4, &lists)?;
            put(&mut cx, to, &pair((at, u32::try_from(names.len())?)))
        })?,
        "monotonic-now" => {
            linker.func_wrap(module, name, |mut cx: Caller<'_, State>| Ok(host::Host::monotonic_now(cx.data_mut())))?
        }
        "random-u64" => {
            linker.func_wrap(module, name, |mut cx: Caller<'_, State>| Ok(host::Host::random_u64(cx.data_mut())))?
        }
        _ => wasmtime::bail!("this host has no function `{name}` in `{module}`"),
    };
    Ok(())
}

fn level_of(level: u32) -> Result<host::Level> {
    Ok(match level {
        0 => host::Level::Trace,
        1 => host::Level::Debug,
        2 => host::Level::Info,
        3 => host::Level::Warn,
        4 => host::Level::Error,
        _ => return Err(Unreadable::Discriminant.into()),
    })
}

fn memory(cx: &mut Caller<'_, State>) -> Result<Memory> {
    let memory = cx.get_export(MEMORY).and_then(Extern::into_memory);
    memory.ok_or_else(|| wasmtime::format_err!("the module exports no memory"))
}

/// Writes bytes where the guest's own allocator says.
fn give_aligned(cx: &mut Caller<'_, State>, align: u32, bytes: &[u8]) -> Result<u32> {
    let realloc = cx.get_export(REALLOC).and_then(Extern::into_func);
    let realloc = realloc.ok_or_else(|| wasmtime::format_err!("the module exports no {REALLOC}"))?;
    let realloc = realloc.typed::<(u32, u32, u32, u32), u32>(&*cx)?;
    let len = u32::try_from(bytes.len())?;
    let at = realloc.call(cx.as_context_mut(), (0, 0, align, len))?;
    fits(&memory(cx)?, &*cx, at, align, len)?;
    put(cx, at, bytes)?;
    Ok(at)
}

fn give(cx: &mut Caller<'_, State>, bytes: &[u8]) -> Result<List> {
    Ok((give_aligned(cx, 1, bytes)?, u32::try_from(bytes.len())?))
}

fn put(cx: &mut Caller<'_, State>, at: u32, bytes: &[u8]) -> Result<()> {
    let memory = memory(cx)?.data_mut(cx);
    let place = memory.get_mut(at as usize..).and_then(|rest| rest.get_mut(..bytes.len()));
    place.ok_or(Unreadable::OutOfBounds)?.copy_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_used_from_the_first_question_on_and_only_where_there_is_one() {
        let room = Room { at: 100, end: 120, free: Cell::new(None) };
        assert_eq!(room.take(1, 0), None, "before the first question");
        room.empty();
        assert_eq!([room.take(1, 3), room.take(4, 8), room.take(1, 0)], [Some(100), Some(104), Some(112)]);
        assert_eq!([room.take(1, 9), room.take(8, 8), room.take(8, 1)], [None, Some(112), None]);
        room.empty();
        assert_eq!(room.take(1, 20), Some(100), "anew");
        let none = Room::default();
        none.empty();
        // Nothing at address 0: a guest takes the null pointer for no value.
        assert_eq!([none.take(1, 0), none.take(4, 4)], [None, None]);
    }
}
