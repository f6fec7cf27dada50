//! Making the three plugins from their configurations.

use super::desk::Waiter;
use super::plugin::{External, ROLES, Role};
use super::tokens::Token;
use crate::plugin::{Loaded, Loader, RunnerPlace};
use crate::schema::{Fault, Object, Path, Reader, Step, nearest};
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

/// Tokens that are not swept.
const SWEEP_AT_MIN: usize = 64;

/// Knows the runners of this process, and makes plugins that talk to them. It lives from one
/// snapshot to the next: a configuration that did not change keeps its token.
#[derive(Debug)]
pub struct Runners {
    runners: Vec<Arc<RunnerPlace>>,
    tokens: FxHashMap<String, Weak<Token<Waiter>>>,
    /// With so many of them those that are gone are looked for.
    sweep_at: usize,
    /// The ids of resources, by where they stand in a list.
    ids: FxHashMap<Path, String>,
}

impl Runners {
    /// With the runners of the configuration; the one without a name first.
    #[must_use]
    pub fn new(runners: Vec<Arc<RunnerPlace>>) -> Self {
        Self { runners, tokens: FxHashMap::default(), sweep_at: 0, ids: FxHashMap::default() }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Arc<RunnerPlace>] {
        &self.runners
    }

    /// Names the resources in lists whose plugins are made next: `routes[0]` may be called `r1`.
    pub fn set_ids(&mut self, ids: impl IntoIterator<Item = (Path, String)>) {
        self.ids = ids.into_iter().collect();
        self.sweep();
    }

    /// Forgets tokens that are gone.
    fn sweep(&mut self) {
        self.tokens.retain(|_, token| token.strong_count() > 0);
        self.sweep_at = self.tokens.len() * 2 + SWEEP_AT_MIN;
    }

    fn token(&mut self, key: &str) -> Arc<Token<Waiter>> {
        if let Some(token) = self.tokens.get(key).and_then(Weak::upgrade) {
            return token;
        }
        if self.tokens.len() >= self.sweep_at {
            self.sweep();
        }
        let token = Arc::default();
        self.tokens.insert(key.to_owned(), Arc::downgrade(&token));
        token
    }

    /// The runner a configuration names, or the only one there is.
    fn runner(&self, object: &mut Object<'_>) -> Option<Arc<RunnerPlace>> {
        let Some(reader) = object.get("runner") else { return self.default_runner(object) };
        let name = reader.string(1..=usize::MAX)?;
        let found = self.runners.iter().find(|runner| runner.name == name);
        if found.is_none() {
            let names = || self.runners.iter().map(|runner| runner.name.as_str());
            let hint = match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "runners are named by `ext-plugin.runners` in config.yaml".to_owned(),
            };
            reader.error(Fault::new(format!("unknown runner `{name}`")).hint(hint));
        }
        found.cloned()
    }

    /// The one without a name, or the only one.
    fn default_runner(&self, object: &Object<'_>) -> Option<Arc<RunnerPlace>> {
        match &self.runners[..] {
            [] => {
                let fault = Fault::new("no runner is configured");
                object.error(fault.hint("give `ext-plugin.cmd` in config.yaml"));
                None
            }
            [first, rest @ ..] if rest.is_empty() || first.name.is_empty() => {
                Some(Arc::clone(first))
            }
            [first, ..] => {
                let fault = Fault::new("there are several runners, and this names none of them");
                object.error(fault.hint(format!("add `runner: {}`, for example", first.name)));
                None
            }
        }
    }

    /// `route#1#ext-plugin-pre-req#<version>`. The version is made of the configuration, so that
    /// only a change needs another token.
    fn key(
        &self,
        role: Role,
        at: &Path,
        runner: &RunnerPlace,
        conf: &[(String, String)],
    ) -> String {
        let mut hasher = FxHasher::default();
        (&runner.name, conf).hash(&mut hasher);
        let version = hasher.finish();
        let [kind, id] = self.resource(at);
        format!("{kind}#{id}#{}#{version:016x}", role.name())
    }

    /// Kind and id of the resource that a plugin stands in.
    fn resource(&self, at: &Path) -> [String; 2] {
        let (list, place, id) = match at.steps() {
            [Step::Key(list), Step::Index(index), ..] => {
                (list, Path::root().key(list).index(*index), index.to_string())
            }
            [Step::Key(list), Step::Key(id), ..] => {
                (list, Path::root().key(list).key(id), id.clone())
            }
            _ => return ["plugin".to_owned(), at.to_string()],
        };
        let kind = list.strip_suffix('s').unwrap_or(list).to_owned();
        [kind, self.ids.get(&place).cloned().unwrap_or(id)]
    }
}

impl Loader for Runners {
    fn names(&self) -> Vec<&str> {
        ROLES.iter().map(|role| role.name()).collect()
    }

    fn load(&mut self, name: &str, conf: Reader<'_>) -> Option<Loaded> {
        let role = ROLES.into_iter().find(|role| role.name() == name)?;
        let (problems, before) = (conf.problems(), conf.problems().count());
        let mut object = conf.object()?;
        let degrades = object.boolean("allow_degradation").unwrap_or(false);
        let list = object.get("conf").and_then(|reader| reader.list_of(1..=usize::MAX, entry));
        let runner = self.runner(&mut object);
        let at = object.at().clone();
        // APISIX allows others.
        object.allow_unknown();
        if problems.count() > before {
            return None;
        }
        let (runner, conf) = (runner?, list.unwrap_or_default());
        let key = self.key(role, &at, &runner, &conf);
        let token = self.token(&key);
        let plugin = Arc::new(External { role, runner, key, conf, degrades, token });
        let (phase, priority) = role.place();
        Some(Loaded { plugin, phase, priority })
    }
}

/// A plugin of the runner: its name and its configuration, which is text of its own.
fn entry(reader: Reader<'_>) -> Option<(String, String)> {
    let mut object = reader.object()?;
    let name = object.need("name").and_then(|name| name.string(1..=128));
    let value = object.need("value").and_then(|value| value.string(0..=usize::MAX));
    object.allow_unknown();
    Some((name?.to_owned(), value?.to_owned()))
}
