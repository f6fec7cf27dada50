//! A second reader of requests, written for these tests only: line by line, no state machine, no
//! code of the gateway's. It reads as the RFCs say, or with the mistakes that readers out there
//! make.

/// How a reader takes what it finds. The default is as RFC 9112 says, without any leniency.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    /// A line ends in LF, with or without CR.
    pub(super) bare_lf: bool,
    /// A line ends in CR, too.
    pub(super) bare_cr: bool,
    /// A line that begins with a space goes on with the one before.
    pub(super) folds: bool,
    /// Space around a field's name is no part of it.
    pub(super) trims_names: bool,
    /// `_` in a name is as good as `-`.
    pub(super) underscores: bool,
    /// A coding is chunked if it has the word in it anywhere.
    pub(super) chunked_anywhere: bool,
    /// A length wins over a coding.
    pub(super) length_wins: bool,
    /// Of several lengths the last counts, not the first.
    pub(super) last_length: bool,
    /// Numbers are read as C does: spaces, a sign, a prefix before them, anything behind them.
    pub(super) c_numbers: bool,
    /// Two bytes are skipped behind chunk data, whatever they are.
    pub(super) skips_two: bool,
    /// A quoted string in an extension hides line ends.
    pub(super) quotes_hide: bool,
    /// What is odd is passed over instead of refused.
    pub(super) forgives: bool,
}

/// What a reader made of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Whole(Request),
    /// More would have to come.
    Partial,
    Invalid,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) target: String,
    pub(super) body: Vec<u8>,
    /// Bytes it took.
    pub(super) len: usize,
    /// Nothing follows it on its connection.
    pub(super) last: bool,
}

impl Rules {
    /// The mistakes of one reader.
    pub(super) fn random(random: &mut fastrand::Rng) -> Self {
        let mut often = || random.u8(..3) == 0;
        Self {
            bare_lf: often(),
            bare_cr: often(),
            folds: often(),
            trims_names: often(),
            underscores: often(),
            chunked_anywhere: often(),
            length_wins: often(),
            last_length: often(),
            c_numbers: often(),
            skips_two: often(),
            quotes_hide: often(),
            forgives: often(),
        }
    }

    /// Everything that a lenient server takes.
    pub(super) fn lenient() -> Self {
        Self {
            bare_lf: true,
            folds: true,
            trims_names: true,
            c_numbers: true,
            forgives: true,
            ..Self::default()
        }
    }
}

/// Why reading stopped.
enum Stop {
    Partial,
    Invalid,
}

/// The request at the start of the bytes.
pub(super) fn read(bytes: &[u8], rules: Rules) -> Verdict {
    let mut reader = Reader { bytes, at: 0, rules };
    match reader.request() {
        Ok(request) => Verdict::Whole(request),
        Err(Stop::Partial) => Verdict::Partial,
        Err(Stop::Invalid) => Verdict::Invalid,
    }
}

/// All whole requests, one after the other, as long as the connection would persist.
pub(super) fn read_all(bytes: &[u8], rules: Rules) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut at = 0;
    while let Verdict::Whole(request) = read(&bytes[at..], rules) {
        at += request.len;
        let last = request.last;
        requests.push(request);
        if last {
            break;
        }
    }
    requests
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    rules: Rules,
}

impl<'a> Reader<'a> {
    fn line(&mut self, hide_quoted: bool) -> Result<&'a [u8], Stop> {
        let start = self.at;
        let mut quoted = false;
        while self.at < self.bytes.len() {
            let byte = self.bytes[self.at];
            self.at += 1;
            quoted ^= hide_quoted && byte == b'"';
            if quoted {
                continue;
            }
            let line = &self.bytes[start..self.at - 1];
            match byte {
                b'\n' if line.ends_with(b"\r") => return Ok(&line[..line.len() - 1]),
                b'\n' if self.rules.bare_lf => return Ok(line),
                b'\n' => return Err(Stop::Invalid),
                b'\r' if self.bytes.get(self.at) != Some(&b'\n') && self.rules.bare_cr => {
                    return Ok(line);
                }
                _ => {}
            }
        }
        Err(Stop::Partial)
    }

    fn request(&mut self) -> Result<Request, Stop> {
        let mut line = self.line(false)?;
        while line.is_empty() {
            line = self.line(false)?;
        }
        let line = String::from_utf8_lossy(line).into_owned();
        let mut words = line.split(' ').filter(|word| !self.rules.forgives || !word.is_empty());
        let (method, target, version) = (words.next(), words.next(), words.next());
        let (Some(method), Some(target), Some(version)) = (method, target, version) else {
            return Err(Stop::Invalid);
        };
        let minor = version.strip_prefix("HTTP/1.").filter(|minor| minor.len() == 1);
        if !self.rules.forgives && (minor.is_none() || words.next().is_some() || !token(method)) {
            return Err(Stop::Invalid);
        }
        let fields = self.fields()?;
        let named = |name: &str| -> Vec<String> {
            let named = fields.iter().filter(|(known, _)| known == name);
            named.map(|(_, value)| value.clone()).collect()
        };
        let body = self.body(&named("transfer-encoding"), &named("content-length"), minor)?;
        let options = named("connection").join(",").to_ascii_lowercase();
        let has = |option: &str| options.split(',').any(|word| word.trim() == option);
        let last = has("close") || minor == Some("0") && !has("keep-alive");
        Ok(Request { target: target.to_owned(), body, len: self.at, last })
    }

    fn fields(&mut self) -> Result<Vec<(String, String)>, Stop> {
        let mut fields: Vec<(String, String)> = Vec::new();
        loop {
            let line = self.line(false)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let text: String = line.iter().map(|byte| char::from(*byte)).collect();
            if text.starts_with([' ', '\t']) && self.rules.folds {
                if let Some((_, value)) = fields.last_mut() {
                    value.push_str(text.trim());
                }
                continue;
            }
            let odd = text.chars().any(|c| c.is_ascii_control() && c != '\t');
            let Some((name, value)) = text.split_once(':').filter(|_| !odd || self.rules.forgives)
            else {
                if self.rules.forgives {
                    continue;
                }
                return Err(Stop::Invalid);
            };
            let name = if self.rules.trims_names { name.trim() } else { name };
            if !token(name) && !self.rules.forgives {
                return Err(Stop::Invalid);
            }
            let mut name = name.to_ascii_lowercase();
            if self.rules.underscores {
                name = name.replace('_', "-");
            }
            fields.push((name, value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    fn body(
        &mut self,
        codings: &[String],
        lengths: &[String],
        minor: Option<&str>,
    ) -> Result<Vec<u8>, Stop> {
        let rules = self.rules;
        let coding = codings.join(",").to_ascii_lowercase();
        let chunked = coding == "chunked" || rules.chunked_anywhere && coding.contains("chunked");
        let length = if rules.last_length { lengths.last() } else { lengths.first() };
        let strict = !rules.forgives;
        let odd = !codings.is_empty() && (!chunked || !lengths.is_empty() || minor == Some("0"));
        if strict && (odd || lengths.len() > 1) {
            return Err(Stop::Invalid);
        }
        match length {
            Some(length) if !chunked || rules.length_wins => {
                let length = number(length, 10, rules).ok_or(Stop::Invalid)?;
                self.take(length)
            }
            _ if chunked => self.chunks(),
            _ => Ok(Vec::new()),
        }
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>, Stop> {
        let left = self.bytes.len() - self.at;
        let length = usize::try_from(length).ok().filter(|length| *length <= left);
        let length = length.ok_or(Stop::Partial)?;
        self.at += length;
        Ok(self.bytes[self.at - length..self.at].to_vec())
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Stop> {
        let mut body = Vec::new();
        loop {
            let line = self.line(self.rules.quotes_hide)?;
            let line: String = line.iter().map(|byte| char::from(*byte)).collect();
            let size_ends = line.find([';', ' ', '\t']).unwrap_or(line.len());
            let (size, extensions) = line.split_at(size_ends);
            if !self.rules.forgives && !extensions_are_sound(extensions) {
                return Err(Stop::Invalid);
            }
            let size = if self.rules.c_numbers { &line } else { size };
            let size = number(size, 16, self.rules).ok_or(Stop::Invalid)?;
            if size == 0 {
                self.fields()?;
                return Ok(body);
            }
            body.extend(self.take(size)?);
            if self.rules.skips_two {
                self.take(2)?;
            } else if !self.line(false)?.is_empty() {
                return Err(Stop::Invalid);
            }
        }
    }
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`, by pieces: quotes first.
fn extensions_are_sound(text: &str) -> bool {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '"' {
            plain.push(c);
            continue;
        }
        // A quoted string counts as one letter that only a value may be.
        loop {
            match rest.next() {
                Some('"') => break,
                Some('\\') => drop(rest.next()),
                Some(c) if c == '\t' || !c.is_control() => {}
                _ => return false,
            }
        }
        plain.push('"');
    }
    let mut parts = plain.split(';');
    let before = parts.next().unwrap_or_default();
    let sound = |part: &str| {
        let (name, value) = part.split_once('=').map_or((part, None), |(n, v)| (n, Some(v)));
        let trim = |text: &str| text.trim_matches([' ', '\t']).to_owned();
        let trailing = part.ends_with([' ', '\t']);
        let fits = |value: &str| token(value) || value == "\"";
        token(&trim(name)) && value.is_none_or(|value| fits(&trim(value))) && !trailing
    };
    // Space may stand before a semicolon, so only the last part must not end in one.
    let parts: Vec<&str> = parts.collect();
    let count = parts.len();
    let within = |(at, part): (usize, &&str)| {
        let last = at + 1 == count;
        sound(if last { part } else { part.trim_end_matches([' ', '\t']) })
    };
    before.trim_matches([' ', '\t']).is_empty()
        && (count > 0 || before.is_empty())
        && parts.iter().enumerate().all(within)
}

fn number(text: &str, base: u32, rules: Rules) -> Option<u64> {
    let digits: &str = if rules.c_numbers {
        let text = text.trim_start();
        let text = text.strip_prefix('+').unwrap_or(text);
        let text = text.strip_prefix("0x").filter(|_| base == 16).unwrap_or(text);
        &text[..text.find(|c: char| !c.is_digit(base)).unwrap_or(text.len())]
    } else {
        text
    };
    let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
    u64::from_str_radix(digits, base).ok().filter(|_| all)
}

fn token(text: &str) -> bool {
    let tchar = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(tchar)
}
