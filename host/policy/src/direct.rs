//! Core modules asked as core modules: the same contract in the same canonical ABI as through the component model's
//! own machinery, which costs 140 ns a call and 20 ns a string more. For modules that import nothing but the host's
//! functions, as those built with the SDK for `wasm32-unknown-unknown` do. What their embedded component type says was
//! checked before (`inspect.rs`); it must never run a module that was not.

mod imports;
mod place;

use std::borrow::Cow;

use wasmparser::{Encoding, ExternalKind, Parser, Payload};
use wasmtime::{Engine, InstancePre, Linker, Memory, Module, Store, TypedFunc, WasmParams};
use witgate_core::answer::{RawRoute, RawStick};
use witgate_core::request::FieldName;

use crate::Exports;
use crate::bindings::Columns;
use crate::bindings::types::Manifest;
use crate::canonical::{Answer, Lift};
use crate::guest::State;
use crate::inspect::{PACKAGE, VERSION};
use crate::instances::ANSWER;
use place::{List, MEMORY, REALLOC, Room, fits, pair};

type Result<T> = wasmtime::Result<T>;

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
            imports::link(&mut linker, import.module(), import.name())?;
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
        let (list, len) = self.room(store, 4, fields.len(), OPTION)?;
        for (n, name) in fields.iter().enumerate() {
            self.field(store, name, list as usize + n * OPTION)?;
        }
        Ok((list, len))
    }

    /// Writes a field's value straight from the request, and to `place`, which is inside the memory, where it is.
    fn field(&self, store: &mut Store<State>, name: &FieldName, place: usize) -> Result<()> {
        let (memory, state) = self.memory.data_and_store_mut(&mut *store);
        let address; // Formatted in place, where `Head::field` would allocate.
        let text = match name {
            FieldName::ClientAddress => {
                address = state.head.client_text();
                Some(Cow::Borrowed(&*address))
            }
            name => state.head.field(name),
        };
        let Some(text) = text else {
            memory[place..][..OPTION].copy_from_slice(&option(None));
            return Ok(());
        };
        let len = u32::try_from(text.len())?;
        if let Some(at) = self.room.take(1, len) {
            memory[at as usize..][..text.len()].copy_from_slice(text.as_bytes());
            memory[place..][..OPTION].copy_from_slice(&option(Some((at, len))));
            return Ok(());
        }
        let text = text.into_owned(); // The guest is to be asked for a place, and the request lies in its store.
        let text = self.lower(store, 1, text.as_bytes())?;
        self.memory.data_mut(store)[place..][..OPTION].copy_from_slice(&option(Some(text)));
        Ok(())
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
        bytes: impl Fn(T) -> [u8; N],
    ) -> Result<List> {
        #[expect(clippy::cast_possible_truncation, reason = "four or eight")]
        let (at, len) = self.room(store, N as u32, values.len(), N)?;
        let place = &mut self.memory.data_mut(store)[at as usize..][..values.len() * N];
        // Arrays, of which the compiler makes one copy.
        place.as_chunks_mut().0.iter_mut().zip(values).for_each(|(place, value)| *place = bytes(*value));
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

/// Bytes of an `option<string>`.
const OPTION: usize = 12;

fn option(text: Option<List>) -> [u8; OPTION] {
    let mut option = [0; OPTION];
    if let Some(text) = text {
        option[0] = 1;
        option[4..].copy_from_slice(&pair(text));
    }
    option
}

fn asked<P>(function: &Option<Function<P>>) -> Result<&Function<P>> {
    function.as_ref().ok_or_else(|| wasmtime::format_err!("the plugin does not export this interface"))
}
