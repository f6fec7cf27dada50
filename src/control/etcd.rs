//! etcd in APISIX's layout: reading everything, writing, watching (APISIX reference §10).

use super::document::{Change, Item};
use super::upkeep::SYSTEM_CERTIFICATES;
use crate::conf::EtcdConfig;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, EventType, GetOptions, Identity,
    PutOptions, TlsOptions, Txn, TxnOp, WatchOptions, WatchStream,
};
use serde_json::Value;
use std::time::Duration;

/// Keys of one answer: small enough for the 4 MiB that a message may have, with usual routes.
const PAGE: i64 = 500;

/// How often a connection without traffic is tried, and how long the answer may take: a peer that
/// vanished is noticed within their sum.
const PROBE: Duration = Duration::from_secs(5);
const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// What APISIX puts under the name of a collection so that the collection is there.
const PLACEHOLDERS: [&str; 2] = ["init_dir", "\"init_dir\""];

/// A client of etcd.
#[derive(Clone)]
pub(super) struct Etcd {
    client: Client,
    prefix: String,
    patience: Duration,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Everything etcd has, as of one revision.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) revision: u64,
    pub(super) items: Vec<(String, Item)>,
}

/// What a watch brings.
#[derive(Debug)]
pub(super) enum News {
    /// Changes, each with its revision, and the revision they lead to.
    Changes { changes: Vec<(Change, u64)>, revision: u64 },
    /// The changes since then are forgotten: everything must be read again.
    Compacted,
}

/// Why a write did not happen.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Somebody else changed one of the keys meanwhile.
    Conflict,
    /// etcd is not there, or refuses.
    Unavailable(String),
}

impl Etcd {
    /// A client; etcd is asked when it is used.
    ///
    /// # Errors
    /// A file of the settings can't be read, or etcd refuses the user.
    pub(super) async fn connect(config: &EtcdConfig) -> Result<Self, String> {
        let mut options = ConnectOptions::new()
            .with_keep_alive(PROBE, PROBE_PATIENCE)
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(config.timeout);
        if let Some((user, password)) = &config.user {
            options = options.with_user(user, password).with_auto_token_refresh(true);
        }
        if config.hosts.iter().any(|host| host.starts_with("https://")) {
            options = options.with_tls(tls(config)?);
        }
        let connecting = Client::connect(&config.hosts, Some(options));
        let client = tokio::time::timeout(config.timeout, connecting).await;
        let client = client.map_err(|_| "no answer in time".to_owned())?;
        let client = client.map_err(|error| reason(&error))?;
        let prefix = format!("{}/", config.prefix);
        Ok(Self { client, prefix, patience: config.timeout })
    }

    /// What etcd answers, if it does so in time.
    async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, String> {
        match tokio::time::timeout(self.patience, asked).await {
            Ok(answer) => answer.map_err(|error| reason(&error)),
            Err(_) => Err(format!("etcd gave no answer within {:?}", self.patience)),
        }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// etcd is not there, or refuses.
    pub(super) async fn read(&self) -> Result<Held, String> {
        let mut held = Held::default();
        let mut from = self.prefix.clone().into_bytes();
        let mut end = from.clone();
        // The prefix ends with a slash, so this is the first key that does not begin with it.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if held.revision > 0 {
                options = options.with_revision(signed(held.revision));
            }
            let mut client = self.client.clone();
            let answer = self.answer(client.get(from.clone(), Some(options))).await?;
            if held.revision == 0 {
                held.revision = answer.header().map_or(0, |header| unsigned(header.revision()));
            }
            for pair in answer.kvs() {
                let Some(key) = self.key(pair.key()) else { continue };
                if let Some(value) = value(&key, pair.value()) {
                    let created = unsigned(pair.create_revision());
                    let modified = unsigned(pair.mod_revision());
                    held.items.push((key, Item { value, created, modified, expires_s: None }));
                }
            }
            match answer.kvs().last() {
                Some(last) if answer.more() => {
                    from = last.key().to_vec();
                    from.push(0);
                }
                _ => return Ok(held),
            }
        }
    }

    /// The last revision.
    ///
    /// # Errors
    /// etcd is not there, or refuses.
    pub(super) async fn revision(&self) -> Result<u64, String> {
        let options = GetOptions::new().with_prefix().with_count_only();
        let mut client = self.client.clone();
        let answer = self.answer(client.get(self.prefix.clone(), Some(options))).await?;
        Ok(answer.header().map_or(0, |header| unsigned(header.revision())))
    }

    /// Writes changes, all or none, if no key was changed since the revision known of it (0: there
    /// is none). Gives the new revision.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub(super) async fn write(&self, changes: &[(Change, u64)]) -> Result<u64, WriteError> {
        let mut client = self.client.clone();
        let (mut conditions, mut operations) = (Vec::new(), Vec::new());
        for (change, known) in changes {
            let key = format!("{}{}", self.prefix, change.key());
            conditions.push(Compare::mod_revision(&*key, CompareOp::Equal, signed(*known)));
            operations.push(match change {
                Change::Delete { .. } => TxnOp::delete(key, None),
                Change::Put { value, ttl_s, .. } => {
                    let options = match ttl_s {
                        Some(ttl) => {
                            let lease = client.lease_grant(signed(*ttl), None);
                            let lease = self.answer(lease).await;
                            let lease = lease.map_err(WriteError::Unavailable)?;
                            Some(PutOptions::new().with_lease(lease.id()))
                        }
                        None => None,
                    };
                    TxnOp::put(key, value.to_string(), options)
                }
            });
        }
        let writing = client.txn(Txn::new().when(conditions).and_then(operations));
        let answer = self.answer(writing).await.map_err(WriteError::Unavailable)?;
        if !answer.succeeded() {
            return Err(WriteError::Conflict);
        }
        Ok(answer.header().map_or(0, |header| unsigned(header.revision())))
    }

    /// A number that no other gateway gets: the revision of a write to APISIX's `gen_id`.
    ///
    /// # Errors
    /// etcd is not there, or refuses.
    pub(super) async fn next_id(&self) -> Result<u64, String> {
        let key = format!("{}gen_id", self.prefix);
        let mut client = self.client.clone();
        let answer = self.answer(client.put(key, "1", None)).await?;
        Ok(answer.header().map_or(0, |header| unsigned(header.revision())))
    }

    /// Watches what comes after a revision.
    ///
    /// # Errors
    /// etcd is not there, or refuses.
    pub(super) async fn watch(&self, after: u64) -> Result<Watch, String> {
        let options = WatchOptions::new().with_prefix().with_start_revision(signed(after + 1));
        let mut client = self.client.clone();
        let stream = self.answer(client.watch(self.prefix.clone(), Some(options))).await?;
        Ok(Watch { stream, etcd: self.clone() })
    }

    /// A key without the prefix, unless it is nothing that configures.
    fn key(&self, bytes: &[u8]) -> Option<String> {
        let key = std::str::from_utf8(bytes).ok()?.strip_prefix(&self.prefix)?;
        (key.contains('/') && !key.ends_with('/')).then(|| key.to_owned())
    }
}

/// A running watch.
pub(super) struct Watch {
    stream: WatchStream,
    etcd: Etcd,
}

impl Watch {
    /// Waits for news.
    ///
    /// # Errors
    /// The watch is over; another one may begin where it ended.
    pub(super) async fn next(&mut self) -> Result<News, String> {
        loop {
            let message = self.stream.message().await.map_err(|error| reason(&error))?;
            let Some(message) = message else { return Err("etcd closed the watch".to_owned()) };
            if message.compact_revision() > 0 {
                return Ok(News::Compacted);
            }
            if message.canceled() {
                return Err(format!("etcd ended the watch: {}", message.cancel_reason()));
            }
            let revision = message.header().map_or(0, |header| unsigned(header.revision()));
            let changes: Vec<_> = message.events().iter().filter_map(|e| self.change(e)).collect();
            if !message.created() {
                return Ok(News::Changes { changes, revision });
            }
        }
    }

    fn change(&self, event: &etcd_client::Event) -> Option<(Change, u64)> {
        let pair = event.kv()?;
        let key = self.etcd.key(pair.key())?;
        let change = match event.event_type() {
            EventType::Put => {
                let value = value(&key, pair.value())?;
                Change::Put { key, value, ttl_s: None }
            }
            EventType::Delete => Change::Delete { key },
        };
        Some((change, unsigned(pair.mod_revision())))
    }
}

/// A value that is JSON. What is none is null, which is left out as every wrong item is: it may
/// have keys in it, and is not shown. Placeholders are nothing.
fn value(key: &str, bytes: &[u8]) -> Option<Value> {
    let parsed = serde_json::from_slice(bytes);
    match parsed {
        Ok(value @ Value::Object(_)) => Some(value),
        _ if PLACEHOLDERS.iter().any(|placeholder| placeholder.as_bytes() == bytes) => None,
        _ => {
            log::error!("etcd: {key} is no JSON object");
            Some(Value::Null)
        }
    }
}

/// An error with what is behind it: `transport error` alone does not tell a wrong certificate from
/// a closed port.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        behind = error.source();
    }
    text
}

fn tls(config: &EtcdConfig) -> Result<TlsOptions, String> {
    let read =
        |path: &str| std::fs::read(path).map_err(|error| format!("{path}: can't be read: {error}"));
    let ca = config.tls.ca.as_deref().unwrap_or(SYSTEM_CERTIFICATES);
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
    if let Some((certificate, key)) = &config.tls.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    if let Some(name) = &config.tls.sni {
        tls = tls.domain_name(name);
    }
    Ok(tls)
}

/// etcd's numbers are signed and never negative.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
