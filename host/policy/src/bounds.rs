//! What an upload may hold, looked at before machine code is made of it. Compiling cannot be stopped, and takes time
//! and memory out of proportion to the bytes: for each function a constant part, and in one function up to the square of
//! its size. It must never refuse what a toolchain makes of an honest plugin.

use wasmparser::{
    BlockType, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, CompositeInnerType,
    Encoding, FuncToValidate, FuncValidatorAllocations, FunctionBody, Instance, Operator, OperatorsReader, Parser,
    Payload, ValidPayload, Validator, ValidatorResources, WasmFeatures, WasmModuleResources,
};

use crate::artifact::guarded;
use crate::compiled::invalid;
use crate::{Refused, Stage};

type Result<T> = std::result::Result<T, Refused>;

// Each limit is two to four times what the largest honest components have: CPython as componentize-py makes it
// (18 MB, 17 s to compile on one core), and QuickJS as ComponentizeJS does (1.6 MB, 3 s). `shipped_plugins_have_room`
// prints their figures.

/// Functions of all modules. One takes 0.1 ms and 5 KB however small it is. CPython has 13,361.
const FUNCTIONS: u64 = 40_000;
/// Bytes of all functions. CPython has 6.5 MB, most of its component being data.
const CODE: u64 = 16 << 20;
/// Locals of one function, with its parameters. CPython has up to 273.
const LOCALS: u64 = 1_000;
/// Bytes of one function. CPython has up to 427 KB: a table that is filled by code.
const BODY: u64 = 1 << 20;
/// Bytes of one function times the values that it holds at once: a value is looked after from where it is made to where
/// it is used. CPython has up to 4.3 million.
const SPAN: u64 = 16_000_000;
/// The same, of all functions. CPython has 123 million.
const SPAN_OF_ALL: u64 = 300_000_000;
/// Values held at each place to which or from which control goes, over all such places of one function: the register
/// allocator keeps a piece of a value's life for each of them. CPython has up to 261,000.
const BRANCHING: u64 = 600_000;
/// The same, of all functions. CPython has 7.7 million.
const BRANCHING_OF_ALL: u64 = 16_000_000;
/// Locals and results that may have one value or another where ways meet, over all such places of one function: each is
/// an instruction of its own, and of all the most costly to give a register (10 us). CPython has up to 10,249.
const CHOICES: u64 = 40_000;
/// The same, of all functions. CPython has 390,000.
const CHOICES_OF_ALL: u64 = 1_200_000;
/// Parameters and results of one function type; a branch may carry as many. CPython has up to 19.
const ARITY: u64 = 100;
/// Core modules, with those of nested components. CPython has 14.
const MODULES: u64 = 50;
/// Imports, exports, aliases, instances, their arguments, and canonical functions of a component, those of a nested one
/// as often as it is instantiated: nested components are unrolled, and ten in each of six levels are a million. CPython has
/// 3,059.
const PARTS: u64 = 10_000;

/// Refuses what would take too long to compile, or too much memory. Takes a small part of the time that
/// compiling takes.
pub(crate) fn check(what: &str, bytes: &[u8]) -> Result<()> {
    guarded(Stage::Compile, || survey(bytes, |error| invalid(what, &error)))?.map(drop)
}

/// What was found: the most of any function, and of all.
#[derive(Debug, Default)]
struct Survey {
    functions: u64,
    modules: u64,
    code: u64,
    span: u64,
    branching: u64,
    choices: u64,
    arity: u64,
    parts: u64,
    most: Figures,
}

/// Of one function.
#[derive(Debug, Default)]
struct Figures {
    locals: u64,
    bytes: u64,
    span: u64,
    branching: u64,
    choices: u64,
}

fn survey(bytes: &[u8], invalid: impl Fn(wasmparser::BinaryReaderError) -> Refused) -> Result<Survey> {
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut allocations = FuncValidatorAllocations::default();
    let (mut found, mut nesting) = (Survey::default(), Nesting::default());
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(&invalid)?;
        // What a section announces is held against its limit before it is looked at any closer.
        match &payload {
            Payload::CodeSectionStart { count, .. } => {
                add(&mut found.functions, u64::from(*count), FUNCTIONS, "functions")?;
            }
            Payload::ModuleSection { .. } => add(&mut found.modules, 1, MODULES, "core modules")?,
            Payload::TypeSection(types) => {
                for ty in types.clone().into_iter_err_on_gc_types() {
                    let ty = ty.map_err(&invalid)?;
                    found.arity = found.arity.max((ty.params().len() + ty.results().len()) as u64);
                    limit("parameters and results of a function type", found.arity, ARITY)?;
                }
            }
            _ => {}
        }
        found.parts = found.parts.max(nesting.payload(&payload).map_err(&invalid)?);
        limit("parts of a component, counting those of each instance of a nested one", found.parts, PARTS)?;
        if let ValidPayload::Func(function, body) = validator.payload(&payload).map_err(&invalid)? {
            let index = function.index;
            let figures = figures(function, &body, &mut allocations).map_err(&invalid)?;
            found.note(&figures).map_err(|why| {
                let module =
                    if found.modules > 0 { format!(" of core module {}", found.modules - 1) } else { String::new() };
                refused(format!("function {index}{module} {why}"))
            })?;
            add(&mut found.code, figures.bytes, CODE, "bytes of functions")?;
            add(&mut found.span, figures.span, SPAN_OF_ALL, "bytes times values held, summed over its functions,")?;
            add(&mut found.branching, figures.branching, BRANCHING_OF_ALL, "values held at branches")?;
            add(&mut found.choices, figures.choices, CHOICES_OF_ALL, "values to choose where ways meet")?;
        }
    }
    Ok(found)
}

impl Survey {
    /// Holds one function against its limits.
    fn note(&mut self, function: &Figures) -> std::result::Result<(), String> {
        for (what, has, most, limit) in [
            ("locals and parameters", function.locals, &mut self.most.locals, LOCALS),
            ("bytes", function.bytes, &mut self.most.bytes, BODY),
            ("as the product of its bytes and the values it holds at once", function.span, &mut self.most.span, SPAN),
            ("values held at its branches", function.branching, &mut self.most.branching, BRANCHING),
            ("values to choose where ways meet", function.choices, &mut self.most.choices, CHOICES),
        ] {
            *most = has.max(*most);
            if has > limit {
                return Err(format!("has {has} {what}; the limit is {limit}, as compiling it would take too long"));
            }
        }
        Ok(())
    }
}

/// Reads one function to its end, or to where it is over a limit.
fn figures(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    allocations: &mut FuncValidatorAllocations,
) -> wasmparser::Result<Figures> {
    let mut validator = function.into_validator(std::mem::take(allocations));
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    let bytes = body.range().len() as u64;
    let mut figures = Figures { locals: u64::from(validator.len_locals()), bytes, ..Figures::default() };
    let (mut values, mut labels) = (figures.locals, Labels::new());
    let mut operators = OperatorsReader::new(reader);
    while !operators.eof() && figures.branching <= BRANCHING && bytes.saturating_mul(values) <= SPAN {
        let at = operators.original_position();
        let operator = operators.read()?;
        let held = figures.locals + u64::from(validator.operand_stack_height());
        values = values.max(held);
        figures.branching += ways(&operator) * (held + 1);
        figures.choices += labels.operator(&operator, validator.resources())?;
        validator.op(at, &operator)?;
    }
    figures.span = bytes.saturating_mul(values);
    *allocations = validator.into_allocations();
    Ok(figures)
}

/// Where control may go in a function, outermost first: the function's end, and what is open of blocks, loops and ifs.
struct Labels(Vec<Label>);

#[derive(Default)]
struct Label {
    /// Whether there is more than one way to it.
    meets: bool,
    /// Values that each of the ways brings along.
    brings: u64,
    /// Locals that are set inside. One that is not has the same value whichever way control comes.
    set: [u64; LOCALS.div_ceil(64) as usize],
}

impl Labels {
    fn new() -> Self {
        Self(vec![Label::default()])
    }

    /// How many choices this operator ends.
    fn operator(&mut self, operator: &Operator<'_>, types: &impl WasmModuleResources) -> wasmparser::Result<u64> {
        let label = |blockty: &BlockType| Label { brings: brings(*blockty, types), ..Label::default() };
        match operator {
            Operator::Block { blockty } | Operator::Loop { blockty } => self.0.push(label(blockty)),
            Operator::TryTable { try_table } => self.0.push(label(&try_table.ty)),
            Operator::If { blockty } => self.0.push(Label { meets: true, ..label(blockty) }),
            Operator::End => return Ok(self.end()),
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => self.branch(*relative_depth),
            Operator::BrTable { targets } => {
                for target in targets.targets() {
                    self.branch(target?);
                }
                self.branch(targets.default());
            }
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                if let Some(label) = self.0.last_mut()
                    && let Some(word) = label.set.get_mut(*local_index as usize / 64)
                {
                    *word |= 1 << (local_index % 64);
                }
            }
            _ => {}
        }
        Ok(0)
    }

    fn branch(&mut self, depth: u32) {
        if let Some(label) = self.0.iter_mut().rev().nth(depth as usize) {
            label.meets = true;
        }
    }

    fn end(&mut self) -> u64 {
        let ended = self.0.pop().unwrap_or_default();
        if let Some(outer) = self.0.last_mut() {
            outer.set.iter_mut().zip(ended.set).for_each(|(outer, inner)| *outer |= inner);
        }
        if ended.meets {
            ended.brings + ended.set.iter().map(|word| u64::from(word.count_ones())).sum::<u64>()
        } else {
            0
        }
    }
}

/// Parameters and results of a block.
fn brings(block: BlockType, types: &impl WasmModuleResources) -> u64 {
    match block {
        BlockType::Empty => 0,
        BlockType::Type(_) => 1,
        BlockType::FuncType(index) => match types.sub_type_at(index).map(|ty| &ty.composite_type.inner) {
            Some(CompositeInnerType::Func(ty)) => (ty.params().len() + ty.results().len()) as u64,
            _ => 0, // The validator says what it thinks of it.
        },
    }
}

/// To how many places control goes from here, or comes here.
fn ways(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::If { .. }
        | Operator::Else
        | Operator::End
        | Operator::Br { .. }
        | Operator::BrIf { .. } => 1,
        Operator::TryTable { try_table } => try_table.catches.len() as u64 + 1,
        Operator::BrTable { targets } => u64::from(targets.len()) + 1,
        _ => 0,
    }
}

fn refused(reason: String) -> Refused {
    Refused::new(Stage::Compile, reason)
}

fn limit(what: &str, has: u64, limit: u64) -> Result<()> {
    if has <= limit {
        return Ok(());
    }
    Err(refused(format!("it has {has} {what}; the limit is {limit}, as compiling it would take too long")))
}

fn add(sum: &mut u64, more: u64, most: u64, what: &str) -> Result<()> {
    *sum = sum.saturating_add(more);
    limit(what, *sum, most)
}

/// The components that the parser is in, outermost first; innermost may be a module, which has no parts.
#[derive(Default)]
struct Nesting(Vec<Frame>);

#[derive(Default)]
struct Frame {
    is_module: bool,
    parts: u64,
    /// Parts of each component in the index space. One that is imported, or is an instance's export, can be any: it
    /// counts as too many, and as no toolchain instantiates one, nobody misses it.
    components: Vec<u64>,
}

const UNKNOWN: u64 = u64::MAX;

impl Nesting {
    /// Counts what a payload adds; the parts of the innermost component so far.
    fn payload(&mut self, payload: &Payload<'_>) -> wasmparser::Result<u64> {
        match payload {
            Payload::Version { encoding, .. } => {
                self.0.push(Frame { is_module: *encoding == Encoding::Module, ..Frame::default() });
            }
            Payload::End(_) => {
                let ended = self.0.pop().unwrap_or_default();
                if let (Some(outer), false) = (self.0.last_mut(), ended.is_module) {
                    outer.components.push(ended.parts);
                }
                return Ok(ended.parts);
            }
            Payload::ComponentCanonicalSection(section) => self.part(u64::from(section.count())),
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    self.part(1);
                    self.named(import?.ty.kind(), UNKNOWN);
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let export = export?;
                    self.part(1);
                    let parts = self.component(0, export.index);
                    self.named(export.kind, parts);
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    self.part(1);
                    match alias? {
                        ComponentAlias::InstanceExport { kind, .. } => self.named(kind, UNKNOWN),
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                            let parts = self.component(count, index);
                            self.named(ComponentExternalKind::Component, parts);
                        }
                        ComponentAlias::Outer { .. } | ComponentAlias::CoreInstanceExport { .. } => {}
                    }
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    self.part(match instance? {
                        Instance::Instantiate { args, .. } => 1 + args.len() as u64,
                        Instance::FromExports(exports) => 1 + exports.len() as u64,
                    });
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    match instance? {
                        ComponentInstance::Instantiate { component_index, args } => {
                            let parts = self.component(0, component_index);
                            self.part(parts.saturating_add(1 + args.len() as u64));
                        }
                        ComponentInstance::FromExports(exports) => self.part(1 + exports.len() as u64),
                    }
                }
            }
            _ => {}
        }
        Ok(self.0.last().map_or(0, |frame| frame.parts))
    }

    fn part(&mut self, parts: u64) {
        if let Some(frame) = self.0.last_mut() {
            frame.parts = frame.parts.saturating_add(parts);
        }
    }

    /// A name for something of this kind; where it is a component, one of so many parts.
    fn named(&mut self, kind: ComponentExternalKind, parts: u64) {
        if let (ComponentExternalKind::Component, Some(frame)) = (kind, self.0.last_mut()) {
            frame.components.push(parts);
        }
    }

    /// Parts of a component that is known so many levels further out.
    fn component(&self, outwards: u32, index: u32) -> u64 {
        let frame = self.0.iter().rev().nth(outwards as usize);
        frame.and_then(|frame| frame.components.get(index as usize)).copied().unwrap_or(UNKNOWN)
    }
}

#[cfg(test)]
mod tests;
