// A reader for small JSON documents (RFC 8259), from front to back. AssemblyScript's library has none.
//
// It works inside the document's own memory: a string is decoded in place, over its escaped form, which is
// never shorter. So the document must stay where it is for as long as its strings are used. The members of
// objects and arrays within the object are checked, but not kept.

// Objects and arrays within each other, at most.
export const JSON_DEPTH: u32 = 64;

export enum JsonKind {
  Null,
  Boolean,
  Number,
  String,
  Array,
  Object,
}

export class JsonValue {
  kind: JsonKind = JsonKind.Null;
  // A string decoded, anything else as it is written.
  at: usize = 0;
  size: usize = 0;

  // Whether this is the given ASCII string.
  is(text: string): bool {
    if (this.kind != JsonKind.String || this.size != <usize>text.length) return false;
    for (let index = 0; index < text.length; index++) {
      if (<i32>load<u8>(this.at + index) != text.charCodeAt(index)) return false;
    }
    return true;
  }

  // The value if it is a number of at most nine digits, without sign, fraction and exponent; else -1.
  unsigned(): i32 {
    if (this.kind != JsonKind.Number || this.size > 9) return -1;
    let number = 0;
    for (let at = this.at; at < this.at + this.size; at++) {
      let digit = <i32>load<u8>(at) - Byte.Zero;
      if (digit < 0 || digit > 9) return -1;
      number = number * 10 + digit;
    }
    return number;
  }
}

const enum Byte {
  Backspace = 0x08,
  Tab = 0x09,
  LineFeed = 0x0a,
  FormFeed = 0x0c,
  CarriageReturn = 0x0d,
  Space = 0x20,
  Quote = 0x22,
  Plus = 0x2b,
  Comma = 0x2c,
  Minus = 0x2d,
  Dot = 0x2e,
  Slash = 0x2f,
  Zero = 0x30,
  Nine = 0x39,
  Colon = 0x3a,
  ArrayStart = 0x5b,
  Backslash = 0x5c,
  ArrayEnd = 0x5d,
  b = 0x62,
  e = 0x65,
  f = 0x66,
  n = 0x6e,
  r = 0x72,
  t = 0x74,
  u = 0x75,
  ObjectStart = 0x7b,
  ObjectEnd = 0x7d,
}

// What `peek` returns behind the last byte.
const END: i32 = -1;

export class Json {
  failed: bool = false;
  private start: usize;
  private at: usize;
  private end: usize;
  private firstMember: bool = true;

  constructor(document: usize, size: usize) {
    this.start = document;
    this.at = document;
    this.end = document + size;
  }

  // How many bytes of the document have been read.
  offset(): u32 {
    return <u32>(this.at - this.start);
  }

  // Whether only white space is left.
  atEnd(): bool {
    this.skipSpace();
    return this.at == this.end;
  }

  // Steps into the object that comes next. False, with no step made, if something else comes.
  enterObject(): bool {
    this.firstMember = true;
    return this.accept(Byte.ObjectStart);
  }

  // Steps over the next member of the entered object, or over the object's end, where it returns false. It
  // also returns false where the document is not JSON: look at `failed`.
  nextMember(key: JsonValue, value: JsonValue): bool {
    if (this.accept(Byte.ObjectEnd)) return false;
    if (!this.firstMember && !this.expect(Byte.Comma)) return false;
    this.firstMember = false;
    return this.string(key) && this.expect(Byte.Colon) && this.value(value, JSON_DEPTH);
  }

  // Steps over the next value, whatever it is. The depth is how much deeper it may go.
  value(value: JsonValue, depth: u32): bool {
    this.skipSpace();
    let next = this.peek();
    if (next == Byte.Quote) return this.string(value);
    let start = this.at;
    let read: bool;
    if (next == Byte.n) {
      value.kind = JsonKind.Null;
      read = this.literal("null");
    } else if (next == Byte.t || next == Byte.f) {
      value.kind = JsonKind.Boolean;
      read = this.literal(next == Byte.t ? "true" : "false");
    } else if (next == Byte.ArrayStart || next == Byte.ObjectStart) {
      if (depth == 0) return this.fail();
      this.at++;
      let array = next == Byte.ArrayStart;
      read = array ? this.array(depth - 1) : this.object(depth - 1);
      value.kind = array ? JsonKind.Array : JsonKind.Object;
    } else {
      value.kind = JsonKind.Number;
      read = this.number();
    }
    value.at = start;
    value.size = this.at - start;
    return read;
  }

  private fail(): bool {
    this.failed = true;
    return false;
  }

  private peek(): i32 {
    return this.at < this.end ? <i32>load<u8>(this.at) : END;
  }

  private skipSpace(): void {
    for (;; this.at++) {
      let next = this.peek();
      if (next != Byte.Space && next != Byte.Tab && next != Byte.LineFeed && next != Byte.CarriageReturn) return;
    }
  }

  // Steps over the byte, if it is the next one after white space.
  private accept(byte: i32): bool {
    this.skipSpace();
    if (this.peek() != byte) return false;
    this.at++;
    return true;
  }

  private expect(byte: i32): bool {
    return this.accept(byte) || this.fail();
  }

  private literal(text: string): bool {
    for (let index = 0; index < text.length; index++, this.at++) {
      if (this.peek() != text.charCodeAt(index)) return this.fail();
    }
    return true;
  }

  // One digit or more.
  private digits(): bool {
    let start = this.at;
    while (this.peek() >= Byte.Zero && this.peek() <= Byte.Nine) this.at++;
    return this.at > start || this.fail();
  }

  private number(): bool {
    if (this.peek() == Byte.Minus) this.at++;
    if (this.peek() == Byte.Zero) this.at++;
    else if (!this.digits()) return false;
    if (this.peek() == Byte.Dot) {
      this.at++;
      if (!this.digits()) return false;
    }
    // In upper or lower case.
    if ((this.peek() | 0x20) == Byte.e) {
      this.at++;
      if (this.peek() == Byte.Plus || this.peek() == Byte.Minus) this.at++;
      if (!this.digits()) return false;
    }
    return true;
  }

  private array(depth: u32): bool {
    let ignored = new JsonValue();
    if (this.accept(Byte.ArrayEnd)) return true;
    do {
      if (!this.value(ignored, depth)) return false;
    } while (this.accept(Byte.Comma));
    return this.expect(Byte.ArrayEnd);
  }

  private object(depth: u32): bool {
    let ignored = new JsonValue();
    if (this.accept(Byte.ObjectEnd)) return true;
    do {
      if (!this.string(ignored) || !this.expect(Byte.Colon) || !this.value(ignored, depth)) return false;
    } while (this.accept(Byte.Comma));
    return this.expect(Byte.ObjectEnd);
  }

  // Steps over the next string and decodes it in place.
  private string(value: JsonValue): bool {
    if (!this.expect(Byte.Quote)) return false;
    let start = this.at;
    let out = start;
    for (;;) {
      let next = this.peek();
      // Unescaped control characters, and the end of the document, which is below them all.
      if (next < Byte.Space) return this.fail();
      if (next == Byte.Quote) break;
      if (next == Byte.Backslash) {
        this.at++;
        out = this.escape(out);
        if (out == 0) return this.fail();
        continue;
      }
      let sequence = this.utf8Size(next);
      if (sequence == 0) return this.fail();
      memory.copy(out, this.at, sequence);
      this.at += sequence;
      out += sequence;
    }
    this.at++;
    value.kind = JsonKind.String;
    value.at = start;
    value.size = out - start;
    return true;
  }

  // Decodes what follows a backslash. Returns where the decoded form ends, or 0 if this is no escape.
  private escape(out: usize): usize {
    let byte = this.peek();
    switch (byte) {
      case Byte.Quote:
      case Byte.Backslash:
      case Byte.Slash: break;
      case Byte.b: byte = Byte.Backspace; break;
      case Byte.f: byte = Byte.FormFeed; break;
      case Byte.n: byte = Byte.LineFeed; break;
      case Byte.r: byte = Byte.CarriageReturn; break;
      case Byte.t: byte = Byte.Tab; break;
      case Byte.u: {
        this.at++;
        let point = this.codePoint();
        return point < 0 ? 0 : putUtf8(out, point);
      }
      default: return 0;
    }
    this.at++;
    store<u8>(out, byte);
    return out + 1;
  }

  // What follows "\u": one code unit, or two where the first opens a surrogate pair; -1 for half a pair.
  private codePoint(): i32 {
    let high = this.hex();
    if (high < 0xd800 || high > 0xdfff) return high;
    if (high > 0xdbff || !this.literal("\\u")) return -1;
    let low = this.hex();
    if (low < 0xdc00 || low > 0xdfff) return -1;
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
  }

  // Four hexadecimal digits; -1 if they are not there.
  private hex(): i32 {
    let unit = 0;
    for (let digit = 0; digit < 4; digit++, this.at++) {
      let next = this.peek();
      let letter = (next | 0x20) - 0x61;
      if (next >= Byte.Zero && next <= Byte.Nine) unit = (unit << 4) | (next - Byte.Zero);
      else if (next != END && letter >= 0 && letter < 6) unit = (unit << 4) | (letter + 10);
      else return -1;
    }
    return unit;
  }

  // How many bytes the UTF-8 sequence that starts with the next byte has; 0 if it is not well-formed.
  private utf8Size(first: i32): usize {
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;
    let size: usize = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (size > this.end - this.at) return 0;
    for (let index: usize = 1; index < size; index++) {
      if ((load<u8>(this.at + index) & 0xc0) != 0x80) return 0;
    }
    // Forms that are longer than need be, surrogates, and what lies beyond the last code point.
    let second = <i32>load<u8>(this.at + 1);
    if (first == 0xe0 && second < 0xa0) return 0;
    if (first == 0xed && second > 0x9f) return 0;
    if (first == 0xf0 && second < 0x90) return 0;
    if (first == 0xf4 && second > 0x8f) return 0;
    return size;
  }
}

// Writes a code point as UTF-8 and returns where it ends.
function putUtf8(out: usize, point: i32): usize {
  if (point < 0x80) {
    store<u8>(out, point);
    return out + 1;
  }
  if (point < 0x800) {
    store<u8>(out, 0xc0 | (point >> 6));
    store<u8>(out + 1, 0x80 | (point & 0x3f));
    return out + 2;
  }
  if (point < 0x10000) {
    store<u8>(out, 0xe0 | (point >> 12));
    store<u8>(out + 1, 0x80 | ((point >> 6) & 0x3f));
    store<u8>(out + 2, 0x80 | (point & 0x3f));
    return out + 3;
  }
  store<u8>(out, 0xf0 | (point >> 18));
  store<u8>(out + 1, 0x80 | ((point >> 12) & 0x3f));
  store<u8>(out + 2, 0x80 | ((point >> 6) & 0x3f));
  store<u8>(out + 3, 0x80 | (point & 0x3f));
  return out + 4;
}
