//! The machine itself: stack, memo, and one small step for each instruction.

use std::collections::HashMap;

use super::arena::Arena;
use super::calls;
use super::globals::Global;
use super::node::{Id, Node, Pickled};
use crate::error::Error;
use crate::limits;

/// Executes the pickle that begins at `start` of `bytes`.
pub(crate) fn run(bytes: &[u8], start: usize) -> Result<Pickled, Error> {
    let mut machine = Machine { bytes, at: start, arena: Arena::default(), stack: Vec::new(), memo: HashMap::new() };
    loop {
        machine.arena.begun = machine.at;
        let opcode = machine.byte()?;
        if opcode == b'.' {
            let root = machine.pop()?;
            return Ok(Pickled { nodes: machine.arena.nodes, root, end: machine.at });
        }
        machine.step(opcode)?;
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Item {
    Mark,
    Node(Id),
}

/// A pickle half-way.
pub(crate) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    arena: Arena,
    stack: Vec<Item>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8) -> Result<(), Error> {
        match opcode {
            // PROTO: 5 is the newest there is, and all are read alike.
            0x80 => match self.byte()? {
                2..=5 => Ok(()),
                _ => Err(Error::Unsupported("is a pickle of an unsupported protocol (2 to 5 are supported)")),
            },
            // FRAME: a hint for readers of streams.
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.stack.push(Item::Mark);
                Ok(())
            }
            b'0' => self.stack.pop().map(drop).ok_or_else(|| self.arena.malformed("nothing on the stack")),
            b'1' => self.marked().map(drop),
            b'2' => {
                let top = self.top()?;
                self.stack.push(Item::Node(top));
                Ok(())
            }
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | 0x8a | b'G' => self.scalar(opcode),
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.text_or_bytes(opcode),
            b']' | b'a' | b'e' | b'l' => self.list(opcode),
            b')' | 0x85 | 0x86 | 0x87 | b't' => self.tuple(opcode),
            b'}' | b's' | b'u' | b'd' => self.dict(opcode),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(opcode),
            b'c' | 0x93 | b'R' | 0x81 | b'b' | b'Q' => self.object(opcode),
            _ => Err(Error::Opcode { opcode, at: self.arena.begun }),
        }
    }

    /// NONE, NEWTRUE, NEWFALSE, BININT, BININT1, BININT2, LONG1, BINFLOAT.
    fn scalar(&mut self, opcode: u8) -> Result<(), Error> {
        let node = match opcode {
            b'N' => Node::None,
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'J' => Node::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Node::Int(self.byte()?.into()),
            b'M' => Node::Int(u16::from_le_bytes(self.array()?).into()),
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            _ => {
                let length = usize::from(self.byte()?);
                let digits = self.take(length)?;
                if length > 8 {
                    return Err(self.arena.malformed("an integer of more than 64 bits"));
                }
                // Two's complement of as many bytes as it takes.
                let sign = if digits.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
                let mut whole = [sign; 8];
                whole[..length].copy_from_slice(digits);
                Node::Int(i64::from_le_bytes(whole))
            }
        };
        self.push(node)
    }

    /// (SHORT_)BINUNICODE(8), (SHORT_)BINSTRING of Python 2, (SHORT_)BINBYTES(8), BYTEARRAY8.
    fn text_or_bytes(&mut self, opcode: u8) -> Result<(), Error> {
        let length = match opcode {
            0x8c | b'U' | b'C' => self.byte()?.into(),
            b'X' | b'T' | b'B' => u32::from_le_bytes(self.array()?).into(),
            _ => u64::from_le_bytes(self.array()?),
        };
        let length = usize::try_from(length).map_err(|_| Error::Truncated { at: self.arena.begun })?;
        let bytes = self.take(length)?;
        let node = match (opcode, std::str::from_utf8(bytes)) {
            (b'X' | 0x8c | 0x8d | b'T' | b'U', Ok(text)) => Node::Str(text.to_owned()),
            (b'X' | 0x8c | 0x8d, Err(_)) => return Err(self.arena.malformed("text that is no UTF-8")),
            _ => Node::Bytes(bytes.to_vec()),
        };
        self.push(node)
    }

    /// EMPTY_LIST, APPEND, APPENDS, LIST.
    fn list(&mut self, opcode: u8) -> Result<(), Error> {
        let new = match opcode {
            b']' => return self.push(Node::List(Vec::new())),
            b'a' => vec![self.pop()?],
            _ => self.marked()?,
        };
        if opcode == b'l' {
            return self.push(Node::List(new));
        }
        let list = self.top()?;
        match self.arena.nodes.get_mut(list) {
            Some(Node::List(items)) => items.extend(new),
            _ => return Err(self.arena.malformed("appending to no list")),
        }
        Ok(())
    }

    /// EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE.
    fn tuple(&mut self, opcode: u8) -> Result<(), Error> {
        let mut items = Vec::new();
        match opcode {
            b't' => items = self.marked()?,
            _ => {
                let count = if opcode == b')' { 0 } else { opcode - 0x84 };
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
            }
        }
        self.push(Node::Tuple(items))
    }

    /// EMPTY_DICT, SETITEM, SETITEMS, DICT.
    fn dict(&mut self, opcode: u8) -> Result<(), Error> {
        let flat = match opcode {
            b'}' => Vec::new(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => self.marked()?,
        };
        if flat.len() % 2 != 0 {
            return Err(self.arena.malformed("a key without a value"));
        }
        let new = flat.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        if matches!(opcode, b'}' | b'd') {
            return self.push(Node::Dict(new.collect()));
        }
        let dict = self.top()?;
        match self.arena.nodes.get_mut(dict) {
            Some(Node::Dict(entries)) => entries.extend(new),
            _ => return Err(self.arena.malformed("an entry for no dict")),
        }
        Ok(())
    }

    /// BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
    fn remember(&mut self, opcode: u8) -> Result<(), Error> {
        let place = match opcode {
            b'q' | b'h' => self.byte()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => u32::try_from(self.memo.len()).map_err(|_| self.arena.malformed("a memo of this size"))?,
        };
        if matches!(opcode, b'h' | b'j') {
            let id = *self.memo.get(&place).ok_or_else(|| self.arena.malformed("nothing in the memo"))?;
            self.stack.push(Item::Node(id));
            return Ok(());
        }
        let top = self.top()?;
        self.memo.insert(place, top);
        if self.memo.len() > limits::VALUES {
            return Err(Error::Limit { what: "more values", limit: limits::VALUES as u64 });
        }
        Ok(())
    }

    /// GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, BUILD, BINPERSID.
    fn object(&mut self, opcode: u8) -> Result<(), Error> {
        match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = Global::named(module, name)?;
                self.push(Node::Global(global))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = Global::named(self.arena.text(module)?, self.arena.text(name)?)?;
                self.push(Node::Global(global))
            }
            b'R' | 0x81 => {
                let (args, function) = (self.pop()?, self.pop()?);
                let (&Node::Global(function), Node::Tuple(args)) = (self.arena.node(function), self.arena.node(args))
                else {
                    return Err(self.arena.malformed("a call of what cannot be called"));
                };
                let args = args.clone();
                let id = calls::call(&mut self.arena, function, &args)?;
                self.stack.push(Item::Node(id));
                Ok(())
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.top()?);
                calls::build(&mut self.arena, object, state)
            }
            _ => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(storage)
            }
        }
    }

    /// `("storage", class, key, location, elements[, view])`: wherever it was, it is on the host now.
    fn storage(&self, id: Id) -> Result<Node, Error> {
        let wrong = || self.arena.malformed("a reference to no storage");
        let Node::Tuple(items) = self.arena.node(id) else { return Err(wrong()) };
        let [kind, class, key, _, _, view @ ..] = &items[..] else { return Err(wrong()) };
        if self.arena.text(*kind)? != "storage" {
            return Err(wrong());
        }
        if view.iter().any(|&view| !matches!(self.arena.node(view), Node::None)) {
            return Err(Error::Unsupported(
                "has storages that are views of others, which is not supported; save the file again",
            ));
        }
        match self.arena.node(*class) {
            Node::Global(Global::Storage(dtype)) => {
                Ok(Node::Storage { key: self.arena.text(*key)?.to_owned(), dtype: *dtype })
            }
            _ => Err(wrong()),
        }
    }

    fn push(&mut self, node: Node) -> Result<(), Error> {
        let id = self.arena.add(node)?;
        self.stack.push(Item::Node(id));
        Ok(())
    }

    fn top(&self) -> Result<Id, Error> {
        match self.stack.last() {
            Some(Item::Node(id)) => Ok(*id),
            _ => Err(self.arena.malformed("nothing on the stack")),
        }
    }

    fn pop(&mut self) -> Result<Id, Error> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    /// Takes everything above the last mark, and the mark.
    fn marked(&mut self) -> Result<Vec<Id>, Error> {
        let mark = self.stack.iter().rposition(|item| *item == Item::Mark);
        let mark = mark.ok_or_else(|| self.arena.malformed("no mark on the stack"))?;
        let items = self.stack.drain(mark..).filter_map(|item| match item {
            Item::Node(id) => Some(id),
            Item::Mark => None,
        });
        Ok(items.collect())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let part = rest.get(..length).ok_or(Error::Truncated { at: self.bytes.len() })?;
        self.at += length;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn line(&mut self) -> Result<&'a str, Error> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        // No name of a module is longer.
        let end = rest.iter().take(256).position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or_else(|| self.arena.malformed("a name without an end"))?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| self.arena.malformed("a name that is no UTF-8"))
    }
}
