//! From a module's bytes to something that can be asked: compiled, linked, and of the right types. A core module that
//! needs nothing but the host's functions is asked directly, everything else as a component. It must never run either.

use wasm_encoder::{CodeSection, CustomSection, Function, Instruction, Module as Encoder, RawSection};
use wasmparser::{BinaryReaderError, CanonicalFunction, CanonicalOption, Parser, Payload};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Module};

use crate::artifact::{guarded, wrap};
use crate::bindings::Indices;
use crate::bounds;
use crate::direct::{self, Symbols};
use crate::guest::State;
use crate::inspect::{Inspected, inspect};
use crate::{Exports, Refused, Stage};

/// Machine code, as the cache keeps it. A module was inspected before it got here, a component was not.
pub(crate) enum Compiled {
    Component(Component),
    Module(Module),
}

/// What instances are made of.
pub(crate) enum Callee {
    Component {
        pre: InstancePre<State>,
        indices: Indices,
        /// Whether its imports may wait, so that it must be called on a stack of its own.
        may_wait: bool,
    },
    Core(direct::Pre),
}

/// Compiled code with what it needs, and what can be asked of it.
pub(crate) struct Linked {
    pub(crate) callee: Callee,
    pub(crate) exports: Exports,
    pub(crate) imports: Vec<String>,
}

/// Generates machine code. Slow.
pub(crate) fn compile(
    engine: &Engine,
    linker: &Linker<State>,
    bytes: &[u8],
    progress: &dyn Fn(Stage),
) -> Result<Compiled, Refused> {
    progress(Stage::Wrap);
    if let Some(symbols) = Symbols::of(bytes) {
        // The types are wherever the code is not: a component without code compiles at once.
        let hollow = hollow(bytes).map_err(|e| damaged(&e))?;
        let wrapped = wrap(&hollow)?;
        progress(Stage::Compile);
        bounds::check("module", bytes)?;
        let compiled = guarded(Stage::Compile, || Module::from_binary(engine, bytes))?;
        let module = compiled.map_err(|e| invalid("module", &format!("{e:#}")))?;
        let component = component(engine, &wrapped)?;
        let types = inspect(engine, linker, &component)?;
        if types.exports == symbols.exports() && utf8(&wrapped).map_err(|e| damaged(&e))? {
            return Ok(Compiled::Module(module));
        }
    }
    let wrapped = wrap(bytes)?;
    progress(Stage::Compile);
    bounds::check("component", &wrapped)?;
    component(engine, &wrapped).map(Compiled::Component)
}

/// Links what was compiled from `bytes`.
pub(crate) fn link(
    engine: &Engine,
    linker: &Linker<State>,
    bytes: &[u8],
    compiled: &Compiled,
) -> Result<Linked, Refused> {
    match compiled {
        Compiled::Component(component) => {
            let Inspected { exports, imports, pre, indices } = inspect(engine, linker, component)?;
            let may_wait = imports.iter().any(|import| crate::wasi::may_wait(import));
            Ok(Linked { callee: Callee::Component { pre, indices, may_wait }, exports, imports })
        }
        Compiled::Module(module) => {
            let refused = |reason: String| Refused::new(Stage::Inspect, reason);
            let symbols =
                Symbols::of(bytes).ok_or_else(|| refused("it cannot be asked as a core module".to_owned()))?;
            let pre = direct::Pre::new(engine, module, symbols).map_err(|e| refused(format!("{e:#}")))?;
            let (exports, imports) = (pre.exports(), pre.imports());
            Ok(Linked { callee: Callee::Core(pre), exports, imports })
        }
    }
}

fn component(engine: &Engine, wrapped: &[u8]) -> Result<Component, Refused> {
    guarded(Stage::Compile, || Component::from_binary(engine, wrapped))?
        .map_err(|e| invalid("component", &format!("{e:#}")))
}

pub(crate) fn invalid(what: &str, error: &dyn std::fmt::Display) -> Refused {
    Refused::new(Stage::Compile, format!("the {what} is not valid, or beyond what this host runs: {error}"))
}

fn damaged(error: &BinaryReaderError) -> Refused {
    Refused::new(Stage::Wrap, format!("the file is damaged or cut short: {error}"))
}

/// The module with the same types, imports and exports, functions that trap, and no data.
fn hollow(module: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut trap = Function::new([]);
    trap.instruction(&Instruction::Unreachable).instruction(&Instruction::End);
    let mut hollow = Encoder::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::DataSection(_) | Payload::DataCountSection { .. } | Payload::CodeSectionEntry(_) => {}
            Payload::CodeSectionStart { count, .. } => {
                let mut code = CodeSection::new();
                (0..count).for_each(|_| _ = code.function(&trap));
                hollow.section(&code);
            }
            Payload::CustomSection(section) => {
                if section.name().starts_with("component-type") {
                    hollow.section(&CustomSection { name: section.name().into(), data: section.data().into() });
                }
            }
            other => {
                if let Some((id, range)) = other.as_section() {
                    hollow.section(&RawSection { id, data: &module[range] });
                }
            }
        }
    }
    Ok(hollow.finish())
}

/// Whether strings cross as UTF-8 everywhere; the contract's tools have other ways too.
fn utf8(component: &[u8]) -> Result<bool, BinaryReaderError> {
    for payload in Parser::new(0).parse_all(component) {
        let Payload::ComponentCanonicalSection(section) = payload? else { continue };
        for function in section {
            let (CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. }) = function? else {
                continue;
            };
            if options.iter().any(|o| matches!(o, CanonicalOption::UTF16 | CanonicalOption::CompactUTF16)) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
