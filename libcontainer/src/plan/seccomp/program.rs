//! Instructions of classic BPF, as far as the front of a filter needs them, and rules for one call made of them.

/// Offsets in struct seccomp_data.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const LOAD_VALUE: u16 = 0x00;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// Tests that jump.
pub(super) mod test {
    pub(crate) const EQUAL: u16 = 0x15;
    pub(crate) const GREATER: u16 = 0x25;
    pub(crate) const GREATER_OR_EQUAL: u16 = 0x35;
    pub(crate) const BITS: u16 = 0x45;
}

/// struct sock_filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instruction {
    code: u16,
    /// How many instructions to pass over when the test holds, and when it does not.
    yes: u8,
    no: u8,
    value: u32,
}

impl Instruction {
    /// The instruction as it lies in memory.
    pub(super) fn word(self) -> u64 {
        let [c0, c1] = self.code.to_ne_bytes();
        let [v0, v1, v2, v3] = self.value.to_ne_bytes();
        u64::from_ne_bytes([c0, c1, self.yes, self.no, v0, v1, v2, v3])
    }
}

const fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, value }
}

pub(super) const fn load(offset: u32) -> Instruction {
    plain(LOAD, offset)
}

pub(super) const fn ret(action: u32) -> Instruction {
    plain(RETURN, action)
}

/// Passes over so many instructions. Whoever makes more of them than the kernel takes is refused later.
pub(super) fn jump(over: usize) -> Instruction {
    plain(JUMP, u32::try_from(over).unwrap_or(u32::MAX))
}

/// `body`, entered only when the test holds.
pub(super) fn when(test: u16, value: u32, body: Vec<Instruction>) -> Vec<Instruction> {
    let mut all = match u8::try_from(body.len()) {
        Ok(no) => vec![Instruction { code: test, yes: 0, no, value }],
        Err(_) => vec![Instruction { code: test, yes: 1, no: 0, value }, jump(body.len())],
    };
    all.extend(body);
    all
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Greater,
    GreaterOrEqual,
    /// Under this mask.
    Masked(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u32,
    pub(super) compare: Compare,
    pub(super) value: u64,
    /// It holds when the comparison does not.
    pub(super) negated: bool,
}

/// What is answered to one call: the first alternative of which all conditions hold decides, and after them the default action.
#[derive(Debug, Default)]
pub(super) struct Judgement(Vec<(Vec<Condition>, u32)>);

impl Judgement {
    pub(super) fn new(alternatives: impl IntoIterator<Item = Vec<Condition>>, action: u32) -> Judgement {
        Judgement(alternatives.into_iter().map(|conditions| (conditions, action)).collect())
    }

    pub(super) fn always(action: u32) -> Judgement {
        Judgement::new([Vec::new()], action)
    }

    pub(super) fn merge(&mut self, later: Judgement) {
        self.0.extend(later.0);
    }

    /// Instructions that always answer. As with libseccomp a rule without conditions is stronger than those with some, wherever it is.
    pub(super) fn assemble(&self, wide: bool, default: u32) -> Vec<Instruction> {
        if let Some((_, action)) = self.0.iter().find(|(conditions, _)| conditions.is_empty()) {
            return vec![ret(*action)];
        }
        let mut program = Vec::new();
        for (conditions, action) in &self.0 {
            let mut alternative = vec![ret(*action)];
            for condition in conditions.iter().rev() {
                alternative.splice(0..0, condition.assemble(wide, alternative.len()));
            }
            program.extend(alternative);
        }
        program.push(ret(default));
        program
    }
}

impl Condition {
    /// Falls through when it holds, passes over `rest` instructions more when it does not. There are at most six conditions of six
    /// instructions in an alternative, so the distances fit.
    fn assemble(self, wide: bool, rest: usize) -> Vec<Instruction> {
        // As libseccomp: bits of the value outside the mask, or above what an architecture has, are not compared.
        let value = match self.compare {
            Compare::Masked(mask) => self.value & mask,
            _ => self.value,
        };
        let [high, low] = halves(if wide { value } else { value & 0xffff_ffff });
        let first = if wide { load(self.half(true)) } else { plain(LOAD_VALUE, 0) };
        let second = load(self.half(false));
        // Targets: whether the comparison holds, if that is known.
        let steps = match self.compare {
            Compare::Equal => vec![
                (first, None),
                step(test::EQUAL, high, None, Some(false)),
                (second, None),
                step(test::EQUAL, low, Some(true), Some(false)),
            ],
            Compare::Masked(mask) => {
                let [mask_high, mask_low] = halves(if wide { mask } else { mask & 0xffff_ffff });
                vec![
                    (first, None),
                    (plain(AND, mask_high), None),
                    step(test::EQUAL, high, None, Some(false)),
                    (second, None),
                    (plain(AND, mask_low), None),
                    step(test::EQUAL, low, Some(true), Some(false)),
                ]
            }
            Compare::Greater | Compare::GreaterOrEqual => {
                let last =
                    if self.compare == Compare::Greater { test::GREATER } else { test::GREATER_OR_EQUAL };
                vec![
                    (first, None),
                    step(test::GREATER, high, Some(true), None),
                    step(test::EQUAL, high, None, Some(false)),
                    (second, None),
                    step(last, low, Some(true), Some(false)),
                ]
            }
        };
        let length = steps.len();
        let resolve = |(at, (mut instruction, targets)): (usize, Step)| {
            if let Some([yes, no]) = targets {
                let end = length - at - 1;
                let distance = |target: Option<bool>| match target {
                    None => 0,
                    Some(holds) if holds != self.negated => end,
                    Some(_) => end + rest,
                };
                instruction.yes = short(distance(yes));
                instruction.no = short(distance(no));
            }
            instruction
        };
        steps.into_iter().enumerate().map(resolve).collect()
    }

    /// The offset of one half of the argument.
    fn half(self, high: bool) -> u32 {
        ARGUMENTS + 8 * self.argument + if high == cfg!(target_endian = "little") { 4 } else { 0 }
    }
}

/// An instruction, and where a test leads: on, or to the end with the comparison's result.
type Step = (Instruction, Option<[Option<bool>; 2]>);

fn step(code: u16, value: u32, yes: Option<bool>, no: Option<bool>) -> Step {
    (plain(code, value), Some([yes, no]))
}

/// High and low.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

fn short(distance: usize) -> u8 {
    u8::try_from(distance).unwrap_or(u8::MAX)
}
