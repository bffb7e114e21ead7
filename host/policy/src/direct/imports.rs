//! The host's functions as a core module imports them, in the flat shape of the canonical ABI. Must never trust an argument.

use wasmtime::{AsContextMut, Caller, Extern, Linker, Memory};

use super::place::{List, MEMORY, REALLOC, fits, pair};
use crate::bindings::host;
use crate::canonical::{Answer, Unreadable, named_field};
use crate::guest::State;
use crate::instances::ANSWER;

type Result<T> = wasmtime::Result<T>;

/// Gives a module one of them.
pub(super) fn link(linker: &mut Linker<State>, module: &str, name: &str) -> Result<()> {
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
