//! What is refused before it is compiled, and that the components that people have are not.

use super::*;
use wasm_encoder::{
    BlockType, CodeSection, EntityType, Function, FunctionSection, ImportSection, Instruction as I, Module,
    TypeSection, ValType,
};

/// A module that imports a function of type `i32 -> i32`, and has `functions` of that type with so many locals more.
fn module(functions: u32, locals: u32, body: impl Fn(&mut Function)) -> Vec<u8> {
    let (mut types, mut imports) = (TypeSection::new(), ImportSection::new());
    types.ty().function([ValType::I32], [ValType::I32]);
    imports.import("a", "f", EntityType::Function(0));
    let (mut defined, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..functions {
        defined.function(0);
        let mut function = Function::new([(locals, ValType::I32)]);
        body(&mut function);
        function.instruction(&I::LocalGet(0)).instruction(&I::End);
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&defined).section(&code);
    module.finish()
}

/// So many ifs, each of which changes one of the locals.
fn ifs(function: &mut Function, locals: u32, ifs: u32) {
    for n in 0..ifs {
        let (read, write) = (n * 7 % (locals + 1), n * 13 % (locals + 1));
        function.instruction(&I::LocalGet(n % (locals + 1))).instruction(&I::If(BlockType::Empty));
        function.instruction(&I::LocalGet(read)).instruction(&I::Call(0)).instruction(&I::LocalSet(write));
        function.instruction(&I::End);
    }
}

#[track_caller]
fn check(bytes: &[u8], says: &str) {
    match (survey(bytes, |e| invalid("module", &e)), says) {
        (Ok(_), "") => {}
        (Ok(found), _) => panic!("let through, expected {says:?}: {found:?}"),
        (Err(Refused { stage, reason }), _) => {
            assert!(
                stage == Stage::Compile && !says.is_empty() && reason.contains(says),
                "{reason}, expected {says:?}"
            );
        }
    }
}

#[test]
fn what_takes_long_to_compile_is_refused() {
    check(&module(1, 900, |f| ifs(f, 900, 200)), "");
    check(
        &module(1, 2000, |f| ifs(f, 2000, 6000)),
        "function 1 has 2001 locals and parameters; the limit is 1000, as compiling it would take too long",
    );
    check(&module(1, 900, |f| ifs(f, 900, 6000)), "function 1 has ");
    check(&module(1, 60, |f| ifs(f, 60, 6000)), "values held at its branches; the limit is 600000");
    // Values on the operand stack are held as those in locals are.
    let stack = |f: &mut Function| {
        (0..900).for_each(|_| _ = f.instruction(&I::LocalGet(0)).instruction(&I::Call(0)));
        ifs(f, 0, 400);
        (0..900).for_each(|_| _ = f.instruction(&I::Drop));
    };
    check(&module(1, 0, stack), "values held at its branches; the limit is 600000");
    // Every target of a table is a branch.
    let table = |f: &mut Function| {
        f.instruction(&I::Block(BlockType::Empty)).instruction(&I::LocalGet(0));
        f.instruction(&I::BrTable(vec![0; 7000].into(), 0)).instruction(&I::End);
    };
    check(&module(1, 100, table), "values held at its branches");
    // Each of many cases of a table changes another local, so that each may have two values at all that follow.
    let cases = |f: &mut Function| {
        (0..440).for_each(|_| _ = f.instruction(&I::Block(BlockType::Empty)));
        f.instruction(&I::LocalGet(0)).instruction(&I::BrTable((0..440).collect::<Vec<_>>().into(), 0));
        for n in 1..=440 {
            f.instruction(&I::End).instruction(&I::LocalGet(0)).instruction(&I::Call(0)).instruction(&I::LocalSet(n));
        }
    };
    check(&module(1, 450, cases), "values to choose where ways meet; the limit is 40000");
    // Without any branch: values that are held over long stretches.
    let straight = |f: &mut Function| {
        for n in 0..20_000 {
            f.instruction(&I::LocalGet(n % 900)).instruction(&I::I32Const(9)).instruction(&I::I32Mul);
            f.instruction(&I::LocalSet((n + 1) % 900));
        }
    };
    check(
        &module(1, 900, straight),
        "as the product of its bytes and the values it holds at once; the limit is 16000000",
    );
    check(&module(1, 0, |f| (0..1 << 20).for_each(|_| _ = f.instruction(&I::Nop))), "bytes; the limit is 1048576");
}

#[test]
fn what_is_too_much_in_all_is_refused() {
    check(&module(100_000, 0, |_| ()), "it has 100000 functions; the limit is 40000");
    check(&module(40, 900, |f| ifs(f, 900, 200)), "");
    check(&module(100, 900, |f| ifs(f, 900, 200)), "values held at branches; the limit is 16000000");
    check(
        &module(17, 0, |f| (0..1_000_000).for_each(|_| _ = f.instruction(&I::Nop))),
        "bytes of functions; the limit is",
    );
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32; 50], [ValType::I32; 51]);
    check(Module::new().section(&types).as_slice(), "it has 101 parameters and results of a function type");
    let text = |text: String| wat::parse_str(text).expect("valid text");
    check(&text(format!("(component {})", "(core module)".repeat(50))), "");
    check(&text(format!("(component {})", "(core module)".repeat(51))), "it has 51 core modules; the limit is 50");
}

/// Components in components, each level instantiating the one below as often.
fn nested(levels: u32, times: usize) -> Vec<u8> {
    let mut inner = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for level in 1..=levels {
        let instances = format!("(instance (instantiate $c{}))", level - 1).repeat(times);
        inner = format!("(component $c{level} {inner} {instances})");
    }
    wat::parse_str(inner).expect("valid text")
}

#[test]
fn components_that_unroll_are_counted_unrolled() {
    check(&nested(3, 10), "");
    check(&nested(4, 10), "parts of a component, counting those of each instance of a nested one; the limit is 10000");
    check(&nested(60, 10), "parts of a component");
    // By an alias, and by another name.
    let chain = |how: &str| {
        let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
        for level in 1..=20 {
            let below = level - 1;
            let instances = "(instance (instantiate $below))".repeat(10);
            let how = how.replace('N', &below.to_string());
            text = format!("{text} (component $c{level} {how} {instances})");
        }
        wat::parse_str(format!("(component $root {text})")).expect("valid text")
    };
    check(&chain("(alias outer $root $cN (component $below))"), "parts of a component");
    let unknown = "(component (component $c (import \"c\" (component $d)) (instance (instantiate $d))))";
    check(&wat::parse_str(unknown).expect("valid text"), "parts of a component");
}

#[test]
fn what_is_not_valid_is_no_matter_of_size() {
    let mut bytes = module(1, 0, |f| _ = f.instruction(&I::I32Add));
    check(&bytes, "the module is not valid, or beyond what this host runs");
    bytes.truncate(bytes.len() - 3);
    check(&bytes, "the module is not valid, or beyond what this host runs");
}

/// The plugins that were built, the interpreters among them: each is at most at half of each limit. Prints the figures
/// that the limits come from.
#[test]
fn shipped_plugins_have_room() {
    let plugins = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins");
    for entry in std::fs::read_dir(plugins).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let bytes = std::fs::read(&path).expect("readable");
        let found = survey(&bytes, |e| invalid("component", &e)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        println!("{}: {found:?}", path.display());
        let Survey { functions, modules, code, span, branching, choices, arity, parts, most } = found;
        for (what, has, limit) in [
            ("functions", functions, FUNCTIONS),
            ("modules", modules, MODULES),
            ("code", code, CODE),
            ("span", span, SPAN_OF_ALL),
            ("branching", branching, BRANCHING_OF_ALL),
            ("choices", choices, CHOICES_OF_ALL),
            ("arity", arity, ARITY),
            ("parts", parts, PARTS),
            ("a function's locals", most.locals, LOCALS),
            ("a function's bytes", most.bytes, BODY),
            ("a function's span", most.span, SPAN),
            ("a function's branching", most.branching, BRANCHING),
            ("a function's choices", most.choices, CHOICES),
        ] {
            assert!(has * 2 <= limit, "{}: {what}: {has} of {limit}", path.display());
        }
    }
}
