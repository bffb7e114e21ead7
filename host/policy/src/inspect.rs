//! Whether a component imports only what it may and exports what can be asked. It must never run any of it.

use wasmtime::Engine;
use wasmtime::component::types::{self, ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentNamedList, InstancePre, Lift, Linker, Lower};

use crate::bindings::{Indices, signature};
use crate::guest::State;
use crate::{Exports, Refused, Stage};

/// The contract's package, and the version that this host asks. A plugin made for any 0.1.x answers: within 0.1 the
/// contract only grows.
pub(crate) const PACKAGE: &str = "witgate:policy/";
pub(crate) const VERSION: &str = "0.1.";

pub(crate) struct Inspected {
    pub(crate) exports: Exports,
    pub(crate) imports: Vec<String>,
    pub(crate) pre: InstancePre<State>,
    pub(crate) indices: Indices,
}

pub(crate) fn inspect(engine: &Engine, linker: &Linker<State>, component: &Component) -> Result<Inspected, Refused> {
    let ty = component.component_type();
    let imports: Vec<String> = ty.imports(engine).map(|(name, _)| name.to_owned()).collect();
    imports.iter().try_for_each(|name| allowed(name)).map_err(refused)?;
    let exports = exports(engine, &ty).map_err(refused)?;
    let pre = linker
        .instantiate_pre(component)
        .map_err(|e| refused(format!("it imports something that this host does not have, or has otherwise: {e:#}")))?;
    let indices = Indices::new(&pre, exports).map_err(|e| refused(format!("an interface is incomplete: {e:#}")))?;
    Ok(Inspected { exports, imports, pre, indices })
}

fn refused(reason: String) -> Refused {
    Refused::new(Stage::Inspect, reason)
}

fn allowed(import: &str) -> Result<(), String> {
    let (path, version) = import.split_once('@').unwrap_or((import, ""));
    let own = matches!(path.strip_prefix(PACKAGE), Some("host" | "types")) && version.starts_with(VERSION);
    let wasi = path.starts_with("wasi:") && version.starts_with("0.2.");
    if own || wasi {
        return Ok(());
    }
    if path.starts_with(PACKAGE) && !version.starts_with(VERSION) {
        return Err(format!("it is made for `{import}`; this host asks version {VERSION}x of the contract"));
    }
    Err(format!(
        "it imports `{import}`; a plugin may import only {PACKAGE}host and {PACKAGE}types at {VERSION}x, and WASI at 0.2.x"
    ))
}

/// A function of the contract: its name, its type for messages, and the check of it.
struct Function {
    name: &'static str,
    wit: &'static str,
    check: fn(&ComponentFunc, &types::Component) -> wasmtime::Result<()>,
}

const CONFIGURE: Function = Function {
    name: "configure",
    wit: "func(config: string) -> result<manifest, string>",
    check: check::<signature::Configure>,
};
const ROUTE: Function =
    Function { name: "route", wit: "func(request: values) -> decision", check: check::<signature::Route> };
const SPLIT: Function = Function {
    name: "split",
    wit: "func(request: values, offer: offer) -> option<u32>",
    check: check::<signature::Split>,
};
const STICK: Function =
    Function { name: "stick", wit: "func(request: values) -> option<sticky>", check: check::<signature::Stick> };
const WEIGH: Function = Function {
    name: "weigh",
    wit: "func(now-ms: u64, endpoints: endpoints) -> list<f32>",
    check: check::<signature::Weigh>,
};
const PICK: Function = Function {
    name: "pick",
    wit: "func(request: values, endpoints: endpoints) -> list<f32>",
    check: check::<signature::Pick>,
};

/// Parameters and results of a function as Rust types.
trait Signature {
    type Params: ComponentNamedList + Lower;
    type Results: ComponentNamedList + Lift;
}

impl<P: ComponentNamedList + Lower, R: ComponentNamedList + Lift> Signature for (P, R) {
    type Params = P;
    type Results = R;
}

fn check<S: Signature>(func: &ComponentFunc, ty: &types::Component) -> wasmtime::Result<()> {
    func.typecheck::<S::Params, S::Results>(&ty.instance_type())
}

/// Which interfaces of the contract are exported, all of them with the right types. Other exports are ignored: some
/// toolchains add their own.
fn exports(engine: &Engine, ty: &types::Component) -> Result<Exports, String> {
    let has = |interface: &str, functions: &[Function]| exported(engine, ty, interface, functions);
    let lifecycle = has("lifecycle", &[CONFIGURE])?;
    let exports = Exports {
        router: has("router", &[ROUTE])?,
        splitter: has("splitter", &[SPLIT])?,
        affinity: has("affinity", &[STICK])?,
        scorer: has("scorer", &[WEIGH, PICK])?,
    };
    let missing = match (lifecycle, exports.names().is_empty()) {
        (true, false) => return Ok(exports),
        (false, _) => format!("{PACKAGE}lifecycle, which every plugin does"),
        (true, true) => format!("any of {PACKAGE}router, splitter, affinity and scorer, so there is nothing to ask it"),
    };
    let names: Vec<_> = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let found = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    Err(format!("it does not export {missing}; it exports {found}"))
}

/// Whether the interface is exported; an error where it is but this host cannot ask it.
fn exported(engine: &Engine, ty: &types::Component, interface: &str, functions: &[Function]) -> Result<bool, String> {
    let versions: Vec<_> = ty
        .exports(engine)
        .filter_map(|(name, item)| {
            let version = name.strip_prefix(PACKAGE)?.strip_prefix(interface)?.strip_prefix('@')?;
            Some((name.to_owned(), version.starts_with(VERSION), item.ty))
        })
        .collect();
    let Some((name, _, item)) = versions.iter().find(|(_, ours, _)| *ours) else {
        // Beside a version that this host asks, others are welcome; alone they are a mistake worth a word.
        return match versions.first() {
            None => Ok(false),
            Some((name, ..)) => Err(format!("it exports `{name}`, but this host asks {PACKAGE}{interface}@{VERSION}x")),
        };
    };
    let ComponentItem::ComponentInstance(instance) = item else {
        return Err(format!("its export `{name}` is not an interface"));
    };
    for Function { name: function, wit, check } in functions {
        let Some(ComponentItem::ComponentFunc(func)) = instance.get_export(engine, function).map(|e| e.ty) else {
            return Err(format!("its `{name}` lacks the function `{function}: {wit}`"));
        };
        if func.async_() {
            return Err(format!("`{function}` of its `{name}` is async; a question is answered at once: `{wit}`"));
        }
        check(&func, ty)
            .map_err(|e| format!("`{function}` of its `{name}` has another type than the contract's `{wit}`: {e:#}"))?;
    }
    Ok(true)
}
