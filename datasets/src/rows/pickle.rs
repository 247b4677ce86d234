//! Rows of Python pickles, protocols 0 to 5.
//!
//! A pickle is a program that builds objects, and Python lets it call any function. This reader
//! builds only plain values: `None`, booleans, numbers, texts, bytes, lists, tuples, sets,
//! dictionaries, and numpy arrays and scalars of plain types. Any other class or function is
//! rejected by its name. Opcodes are those of CPython's `Lib/pickletools.py`.

mod numpy;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Read;
use std::rc::Rc;

use serde_json::{Map, Number, Value, json};

use self::numpy::{Array, Dtype};
use super::{Emit, Shape, Source, python};

/// The maximum nesting depth of values. It also rejects values that contain themselves.
const DEEPEST: usize = 128;

/// The maximum number of values per byte of the file. A pickle can repeat a value that it has built
/// in two bytes, so a small file could describe a huge value.
const VALUES_PER_BYTE: usize = 64;

/// A value that a pickle builds, or an intermediate object.
#[derive(Debug, Clone, Default)]
enum Object {
    #[default]
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Rc<str>),
    /// Bytes, or a text of Python 2.
    Bytes(Rc<[u8]>),
    /// A list, tuple or set.
    List(Rc<RefCell<Vec<Object>>>),
    Dict(Rc<RefCell<Vec<(Object, Object)>>>),
    /// A class or function, `module.name`.
    Global(Rc<str>),
    Dtype(Rc<RefCell<Dtype>>),
    Array(Rc<RefCell<Array>>),
    Mark,
}

impl Object {
    fn list(elements: Vec<Object>) -> Self {
        Object::List(Rc::new(RefCell::new(elements)))
    }

    /// Returns its name for error messages.
    fn kind(&self) -> String {
        match self {
            Object::None => "None".to_owned(),
            Object::Bool(_) => "a boolean".to_owned(),
            Object::Int(_) | Object::Float(_) => "a number".to_owned(),
            Object::Text(_) | Object::Bytes(_) => "a text".to_owned(),
            Object::List(_) => "a list".to_owned(),
            Object::Dict(_) => "a dictionary".to_owned(),
            Object::Global(name) => format!("`{name}`"),
            Object::Dtype(_) => "a type of numpy".to_owned(),
            Object::Array(_) => "an array".to_owned(),
            Object::Mark => "a mark".to_owned(),
        }
    }

    fn elements(&self) -> Result<Vec<Object>, String> {
        match self {
            Object::List(elements) => Ok(elements.borrow().clone()),
            other => Err(format!("found {} where a list is expected", other.kind())),
        }
    }

    fn bytes(&self) -> Result<Rc<[u8]>, String> {
        match self {
            Object::Bytes(bytes) => Ok(bytes.clone()),
            // Protocol 2 stores bytes of Python 3 as texts until they are encoded.
            Object::Text(text) => Ok(text.as_bytes().into()),
            other => Err(format!("found {} where bytes are expected", other.kind())),
        }
    }

    fn text(&self) -> Result<String, String> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    fn whole(&self) -> Result<usize, String> {
        match self {
            Object::Int(number) => usize::try_from(*number).map_err(|_| format!("{number} is not a size")),
            Object::Bool(value) => Ok(usize::from(*value)),
            other => Err(format!("found {} where a size is expected", other.kind())),
        }
    }

    /// Returns the number of rows, if it is a list or an array.
    fn length(&self) -> Option<usize> {
        match self {
            Object::List(elements) => Some(elements.borrow().len()),
            Object::Array(array) => array.borrow().shape.first().copied(),
            _ => None,
        }
    }
}

/// Reads the rows of a pickle. The whole pickle is in memory; arrays are converted one row at a
/// time.
pub(super) fn read(source: &Source, emit: &mut Emit) -> Result<(), String> {
    let mut bytes = Vec::new();
    source.bytes()?.read_to_end(&mut bytes).map_err(|fault| fault.to_string())?;
    let loaded = load(&bytes)?;
    let mut value = loaded.value.clone();
    for step in source.table.at.split('.').filter(|step| !step.is_empty()) {
        value = member(&value, step)?;
    }
    let mut json = Converter { left: bytes.len().saturating_mul(VALUES_PER_BYTE) + 1024 };
    rows(&value, source.shape, &mut json, emit)
}

fn rows(value: &Object, shape: Shape, json: &mut Converter, emit: &mut Emit) -> Result<(), String> {
    match (shape, value) {
        (Shape::Whole, value) => {
            let _ = emit(0, Ok(named(json.value(value, 0)?).into()));
        }
        (Shape::List, value) => {
            let Some(length) = value.length() else {
                return Err(format!("contains {} and not a list of rows; set `shape` or `at`", value.kind()));
            };
            for place in 0..length {
                if emit(place as u64, Ok(named(json.element(value, place)?).into())).is_break() {
                    break;
                }
            }
        }
        (Shape::Map, Object::Dict(fields)) => {
            for (number, (key, value)) in fields.borrow().iter().enumerate() {
                let mut row = named(json.value(value, 0)?);
                row["_key"] = json!(python::key(&json.value(key, 0)?));
                if emit(number as u64, Ok(row.into())).is_break() {
                    break;
                }
            }
        }
        (Shape::Columns, Object::Dict(fields)) => {
            let fields = fields.borrow();
            let mut lengths = fields.iter().filter_map(|(_, column)| column.length());
            let length = lengths.next().ok_or("contains no list that could be a column")?;
            if let Some(other) = lengths.find(|other| *other != length) {
                return Err(format!("has columns of {length} and of {other} rows"));
            }
            for place in 0..length {
                let mut row = Map::new();
                for (key, column) in fields.iter() {
                    let key = python::key(&json.value(key, 0)?);
                    // A value that is not a list is the same for all rows.
                    let is_column = column.length().is_some();
                    row.insert(key, if is_column { json.element(column, place)? } else { json.value(column, 0)? });
                }
                if emit(place as u64, Ok(Value::Object(row).into())).is_break() {
                    break;
                }
            }
        }
        (_, value) => return Err(format!("contains {} and not a dictionary; remove `shape`", value.kind())),
    }
    Ok(())
}

fn named(value: Value) -> Value {
    match value {
        row @ Value::Object(_) => row,
        other => json!({ "_value": other }),
    }
}

fn member(value: &Object, step: &str) -> Result<Object, String> {
    let Object::Dict(fields) = value else { return Err(format!("there is no `{step}` in {}", value.kind())) };
    let fields = fields.borrow();
    let key = |key: &Object| key.text().unwrap_or_default();
    let found = fields.iter().find(|(own, _)| key(own) == step).map(|(_, value)| value.clone());
    found.ok_or_else(|| {
        let known: Vec<String> = fields.iter().take(12).map(|(own, _)| key(own)).collect();
        format!("there is no key `{step}` here, only {}", known.join(", "))
    })
}

/// Converts objects to JSON.
struct Converter {
    /// The number of values that may still be created.
    left: usize,
}

impl Converter {
    fn value(&mut self, object: &Object, depth: usize) -> Result<Value, String> {
        self.left = self.left.checked_sub(1).ok_or("contains more values than its size allows")?;
        if depth > DEEPEST {
            return Err("contains values that are nested too deep".to_owned());
        }
        Ok(match object {
            Object::None => Value::Null,
            Object::Bool(value) => Value::Bool(*value),
            Object::Int(number) => int(*number),
            Object::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
            Object::Text(text) => json!(text.as_ref()),
            Object::Bytes(bytes) => json!(text_of(bytes)),
            Object::List(elements) => {
                let elements = elements.borrow();
                elements.iter().map(|own| self.value(own, depth + 1)).collect::<Result<Vec<_>, _>>()?.into()
            }
            Object::Dict(fields) => {
                let mut object = Map::new();
                for (key, value) in fields.borrow().iter() {
                    let key = python::key(&self.value(key, depth + 1)?);
                    object.insert(key, self.value(value, depth + 1)?);
                }
                Value::Object(object)
            }
            Object::Array(array) => {
                let array = array.borrow();
                self.left = self.left.checked_sub(array.length()).ok_or("contains more values than its size allows")?;
                array.value(self, depth)?
            }
            other @ (Object::Global(_) | Object::Dtype(_) | Object::Mark) => {
                return Err(format!("contains {}, which is not a plain value", other.kind()));
            }
        })
    }

    /// Converts one row of a list or an array.
    fn element(&mut self, list: &Object, place: usize) -> Result<Value, String> {
        match list {
            Object::List(elements) => self.value(&elements.borrow()[place], 0),
            Object::Array(array) => array.borrow().row(place, self),
            other => self.value(other, 0),
        }
    }
}

fn int(number: i128) -> Value {
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(number), _) => json!(number),
        (_, Ok(number)) => json!(number),
        _ => json!(number.to_string()),
    }
}

/// Returns bytes as text: as UTF-8 if they are valid, otherwise each byte as the character with its
/// code.
fn text_of(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|&byte| char::from(byte)).collect(), str::to_owned)
}

/// The value of a pickle, and all values in it that contain others.
#[derive(Default)]
struct Loaded {
    value: Object,
    holders: Vec<Object>,
}

impl Drop for Loaded {
    /// Empties all values that contain others while all of them are still referenced. So no value
    /// frees another one recursively, and values that contain themselves are freed too.
    fn drop(&mut self) {
        for holder in &self.holders {
            match holder {
                Object::List(elements) => drop(elements.take()),
                Object::Dict(fields) => drop(fields.take()),
                Object::Array(array) => drop(array.take()),
                _ => {}
            }
        }
    }
}

/// Executes a pickle to its end.
fn load(bytes: &[u8]) -> Result<Loaded, String> {
    let mut machine = Machine { bytes, place: 0, stack: Vec::new(), memo: HashMap::new(), loaded: Loaded::default() };
    loop {
        let at = machine.place;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(value)) => {
                machine.loaded.value = value;
                return Ok(machine.loaded);
            }
            Err(reason) => return Err(format!("byte {at}: {reason}")),
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    place: usize,
    stack: Vec<Object>,
    memo: HashMap<usize, Object>,
    loaded: Loaded,
}

impl<'a> Machine<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.place.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("the pickle is cut short")?;
        let taken = &self.bytes[self.place..end];
        self.place = end;
        Ok(taken)
    }

    /// Reads a little-endian number of up to 8 bytes.
    fn number(&mut self, length: usize) -> Result<usize, String> {
        let bytes = self.take(length)?;
        let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        usize::try_from(number).map_err(|_| format!("the size {number} is too large"))
    }

    fn line_bytes(&mut self) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.place..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("the pickle is cut short")?;
        self.place += length + 1;
        Ok(&rest[..length])
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let line = std::str::from_utf8(self.line_bytes()?).map_err(|fault| fault.to_string())?;
        Ok(line.trim_end_matches('\r'))
    }

    fn pop(&mut self) -> Result<Object, String> {
        self.stack.pop().ok_or_else(|| "a value is missing".to_owned())
    }

    fn top(&self) -> Result<&Object, String> {
        self.stack.last().ok_or_else(|| "a value is missing".to_owned())
    }

    /// Removes and returns the values above the last mark.
    fn above_mark(&mut self) -> Result<Vec<Object>, String> {
        let mark = self.stack.iter().rposition(|own| matches!(own, Object::Mark)).ok_or("a mark is missing")?;
        let above = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(above)
    }

    fn remember(&mut self, name: usize) -> Result<(), String> {
        let value = self.top()?.clone();
        self.memo.insert(name, value);
        Ok(())
    }

    fn recall(&mut self, name: usize) -> Result<(), String> {
        let value = self.memo.get(&name).cloned().ok_or_else(|| format!("no value was stored as {name}"))?;
        self.stack.push(value);
        Ok(())
    }

    /// Executes one opcode. Returns the value of the pickle at its end.
    fn step(&mut self) -> Result<Option<Object>, String> {
        let code = self.take(1)?[0];
        let value = match code {
            b'.' => return self.pop().map(Some),
            0x80 => return self.take(1).map(|_| None),
            0x95 => return self.take(8).map(|_| None),
            b'(' => Object::Mark,
            b'0' => return self.pop().map(|_| None),
            b'1' => return self.above_mark().map(|_| None),
            b'2' => self.top()?.clone(),
            b'N' => Object::None,
            0x88 => Object::Bool(true),
            0x89 => Object::Bool(false),
            b'I' => match self.line()? {
                "00" => Object::Bool(false),
                "01" => Object::Bool(true),
                number => decimal(number)?,
            },
            b'L' => {
                let line = self.line()?;
                decimal(line.trim_end_matches('L'))?
            }
            b'J' => Object::Int(i128::from(self.number(4)? as u32 as i32)),
            b'K' => Object::Int(self.number(1)? as i128),
            b'M' => Object::Int(self.number(2)? as i128),
            0x8A => {
                let length = self.number(1)?;
                long(self.take(length)?)?
            }
            0x8B => {
                let length = self.number(4)?;
                long(self.take(length)?)?
            }
            b'F' => {
                let line = self.line()?;
                Object::Float(line.trim().parse().map_err(|_| format!("{line:?} is not a number"))?)
            }
            b'G' => Object::Float(f64::from_be_bytes(self.take(8)?.try_into().expect("8 bytes were taken"))),
            b'S' => {
                let line = self.line()?;
                let text = python::parse(line.trim())?;
                let text = text.as_str().ok_or("a text is expected")?;
                // The escapes in a text of Python 2 are bytes.
                let bytes: Option<Vec<u8>> = text.chars().map(|own| u8::try_from(own).ok()).collect();
                Object::Bytes(bytes.map_or_else(|| text.as_bytes().into(), Into::into))
            }
            b'V' => Object::Text(raw_unicode(self.line_bytes()?).into()),
            b'T' | b'B' => self.sized(4)?,
            b'U' | b'C' => self.sized(1)?,
            0x8E | 0x96 => self.sized(8)?,
            b'X' => self.text(4)?,
            0x8C => self.text(1)?,
            0x8D => self.text(8)?,
            b']' | b')' | 0x8F => Object::list(Vec::new()),
            b'l' | b't' | 0x91 => Object::list(self.above_mark()?),
            0x85 => Object::list(vec![self.pop()?]),
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'}' => Object::Dict(Rc::default()),
            b'd' => Object::Dict(Rc::new(RefCell::new(pairs(self.above_mark()?)?))),
            b'a' => {
                let value = self.pop()?;
                return self.append(vec![value]);
            }
            b'e' | 0x90 => {
                let values = self.above_mark()?;
                return self.append(values);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                return self.set(vec![(key, value)]);
            }
            b'u' => {
                let items = pairs(self.above_mark()?)?;
                return self.set(items);
            }
            b'p' => {
                let name = self.line()?.parse().map_err(|_| "the key of a stored value is not a number")?;
                return self.remember(name).map(|()| None);
            }
            b'q' => return self.number(1).and_then(|name| self.remember(name)).map(|()| None),
            b'r' => return self.number(4).and_then(|name| self.remember(name)).map(|()| None),
            0x94 => return self.remember(self.memo.len()).map(|()| None),
            b'g' => {
                let name = self.line()?.parse().map_err(|_| "the key of a stored value is not a number")?;
                return self.recall(name).map(|()| None);
            }
            b'h' => return self.number(1).and_then(|name| self.recall(name)).map(|()| None),
            b'j' => return self.number(4).and_then(|name| self.recall(name)).map(|()| None),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                global(module, name)?
            }
            0x93 => {
                let (name, module) = (self.pop()?.text()?, self.pop()?.text()?);
                global(&module, &name)?
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?.elements()?, self.pop()?);
                call(&function, &arguments)?
            }
            b'b' => {
                let state = self.pop()?;
                return build(self.top()?, &state).map(|()| None);
            }
            b'i' => return Err(refused(self.line()?, self.line()?)),
            other => return Err(format!("the opcode {other:#04x} does not build a plain value")),
        };
        if matches!(value, Object::List(_) | Object::Dict(_) | Object::Array(_)) {
            self.loaded.holders.push(value.clone());
        }
        self.stack.push(value);
        Ok(None)
    }

    fn sized(&mut self, length: usize) -> Result<Object, String> {
        let length = self.number(length)?;
        Ok(Object::Bytes(self.take(length)?.into()))
    }

    fn text(&mut self, length: usize) -> Result<Object, String> {
        let length = self.number(length)?;
        Ok(Object::Text(String::from_utf8_lossy(self.take(length)?).into()))
    }

    fn tuple(&mut self, length: usize) -> Result<Object, String> {
        let from = self.stack.len().checked_sub(length).ok_or("a value is missing")?;
        Ok(Object::list(self.stack.split_off(from)))
    }

    fn append(&mut self, values: Vec<Object>) -> Result<Option<Object>, String> {
        match self.top()? {
            Object::List(elements) => elements.borrow_mut().extend(values),
            other => return Err(format!("{} is not a list to append to", other.kind())),
        }
        Ok(None)
    }

    fn set(&mut self, items: Vec<(Object, Object)>) -> Result<Option<Object>, String> {
        match self.top()? {
            Object::Dict(fields) => fields.borrow_mut().extend(items),
            other => return Err(format!("{} is not a dictionary", other.kind())),
        }
        Ok(None)
    }
}

fn decimal(text: &str) -> Result<Object, String> {
    text.trim().parse().map(Object::Int).map_err(|_| format!("{text:?} is not a whole number of at most 127 bits"))
}

/// Reads a little-endian whole number in two's complement.
fn long(bytes: &[u8]) -> Result<Object, String> {
    if bytes.len() > 16 {
        return Err(format!("a whole number of {} bytes is too long", bytes.len()));
    }
    let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xFF } else { 0 };
    let mut whole = [sign; 16];
    whole[..bytes.len()].copy_from_slice(bytes);
    Ok(Object::Int(i128::from_le_bytes(whole)))
}

/// Reads a text of protocol 0: Latin-1, with `\uXXXX` and `\UXXXXXXXX` for all other characters.
fn raw_unicode(line: &[u8]) -> String {
    let line: String = line.iter().map(|&byte| char::from(byte)).collect();
    let mut text = String::new();
    let mut rest = line.as_str();
    while let Some(place) = rest.find("\\u").into_iter().chain(rest.find("\\U")).min() {
        let digits = if rest[place..].starts_with("\\u") { 4 } else { 8 };
        let code = rest.get(place + 2..place + 2 + digits).and_then(|code| u32::from_str_radix(code, 16).ok());
        text.push_str(&rest[..place]);
        match code {
            Some(code) => text.push(char::from_u32(code).unwrap_or('\u{FFFD}')),
            None => text.push_str(&rest[place..place + 2]),
        }
        rest = &rest[place + 2 + if code.is_some() { digits } else { 0 }..];
    }
    text + rest
}

fn pairs(values: Vec<Object>) -> Result<Vec<(Object, Object)>, String> {
    if values.len() % 2 == 1 {
        return Err("a dictionary has a key without a value".to_owned());
    }
    let mut values = values.into_iter();
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// The classes and functions that build plain values. Only the last part of the module is compared,
/// because the full name differs between Python 2 and 3 and between numpy 1 and 2.
const PLAIN: &[(&str, &str)] = &[
    ("OrderedDict", "collections"),
    ("defaultdict", "collections"),
    ("_frombuffer", "numeric"),
    ("_reconstruct", "multiarray"),
    ("bytearray", "builtins"),
    ("dict", "builtins"),
    ("dtype", "numpy"),
    ("encode", "_codecs"),
    ("frozenset", "builtins"),
    ("int", "builtins"),
    ("list", "builtins"),
    ("ndarray", "numpy"),
    ("scalar", "multiarray"),
    ("set", "builtins"),
    ("tuple", "builtins"),
];

fn global(module: &str, name: &str) -> Result<Object, String> {
    let last = module.rsplit('.').next().unwrap_or(module);
    let last = if last == "__builtin__" { "builtins" } else { last };
    let is_numpy = module == "numpy" || module.starts_with("numpy.") || !matches!(last, "numeric" | "multiarray");
    let is_whole = !module.contains('.') || module.starts_with("numpy.");
    if is_numpy && is_whole && PLAIN.contains(&(name, last)) {
        return Ok(Object::Global(name.into()));
    }
    Err(refused(module, name))
}

fn refused(module: &str, name: &str) -> String {
    format!("`{module}.{name}` is refused: only plain values and numpy arrays are read")
}

/// Calls one of the functions that build plain values.
fn call(function: &Object, arguments: &[Object]) -> Result<Object, String> {
    let Object::Global(name) = function else { return Err(format!("{} is called", function.kind())) };
    match (name.as_ref(), arguments) {
        ("OrderedDict" | "dict", []) | ("defaultdict", _) => Ok(Object::Dict(Rc::default())),
        ("OrderedDict" | "dict", [items]) => {
            let pair = |own: &Object| match own.elements()?.as_slice() {
                [key, value] => Ok((key.clone(), value.clone())),
                _ => Err("a pair is expected".to_owned()),
            };
            let items = items.elements()?.iter().map(pair).collect::<Result<_, _>>()?;
            Ok(Object::Dict(Rc::new(RefCell::new(items))))
        }
        ("list" | "tuple" | "set" | "frozenset", []) => Ok(Object::list(Vec::new())),
        ("list" | "tuple" | "set" | "frozenset", [elements]) => Ok(Object::list(elements.elements()?)),
        ("bytearray", []) => Ok(Object::Bytes(Rc::from([]))),
        ("bytearray", [bytes]) => Ok(Object::Bytes(bytes.bytes()?)),
        ("encode", [Object::Text(text), ..]) => {
            // Python 3 writes bytes for Python 2 as a text with their codes.
            let bytes: Option<Vec<u8>> = text.chars().map(|own| u8::try_from(own).ok()).collect();
            Ok(Object::Bytes(bytes.ok_or("a text is not Latin-1")?.into()))
        }
        ("dtype", [name, ..]) => Ok(Object::Dtype(Rc::new(RefCell::new(Dtype::parse(&name.text()?)?)))),
        ("_reconstruct", [..]) => Ok(Object::Array(Rc::default())),
        ("scalar", [Object::Dtype(dtype), bytes]) => numpy::scalar(&dtype.borrow(), bytes),
        ("_frombuffer", [bytes, Object::Dtype(dtype), shape, order]) => {
            let shape = shape.elements()?.iter().map(Object::whole).collect::<Result<_, _>>()?;
            let is_fortran = order.text()? == "F";
            let array = Array::new(dtype.borrow().clone(), shape, is_fortran, bytes)?;
            Ok(Object::Array(Rc::new(RefCell::new(array))))
        }
        (name, arguments) => Err(format!("`{name}` with {} values does not build a plain value", arguments.len())),
    }
}

/// Sets the state of a numpy type or array.
fn build(object: &Object, state: &Object) -> Result<(), String> {
    let state = state.elements()?;
    match (object, state.as_slice()) {
        (Object::Dtype(dtype), [_, order, ..]) => dtype.borrow_mut().set_order(&order.text()?),
        (Object::Array(array), [_, shape, Object::Dtype(dtype), is_fortran, data]) => {
            let shape = shape.elements()?.iter().map(Object::whole).collect::<Result<_, _>>()?;
            *array.borrow_mut() = Array::new(dtype.borrow().clone(), shape, is_fortran.whole()? == 1, data)?;
            Ok(())
        }
        (other, _) => Err(format!("{} is given a state", other.kind())),
    }
}

#[cfg(test)]
mod tests;
