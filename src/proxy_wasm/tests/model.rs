//! What the ABI reference says of host calls: a model that knows nothing of the host.
//!
//! A [`Place`] is a callback and what is there in it; an [`Expect`] is how a call's answer follows
//! from that. Section numbers are those of the reference.

/// Statuses (§19).
pub(super) const OK: u32 = 0;
pub(super) const NOT_FOUND: u32 = 1;
pub(super) const BAD_ARGUMENT: u32 = 2;
pub(super) const PARSE_FAILURE: u32 = 4;
pub(super) const BAD_MEMORY: u32 = 6;
pub(super) const EMPTY: u32 = 7;
pub(super) const CAS_MISMATCH: u32 = 8;

/// The last map and the last buffer there is a number for (§19).
const MAP_LAST: u32 = 7;
const BUFFER_LAST: u32 = 8;

/// The first of the maps that nobody can change: those of replies (§8).
const MAP_FIXED: u32 = 4;

/// The first of the buffers that nobody can change (§9).
const BUFFER_FIXED: u32 = 4;

/// A callback, and what is there in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) callback: &'static str,
    /// Its context is a stream's.
    stream: bool,
    /// Its context is a root's or has one.
    root: bool,
    /// Everything is over: what is there can be read and not changed (§4, §8).
    over: bool,
    maps: &'static [u32],
    /// Those of them that are made here, so that a field can be added: they are empty.
    made: &'static [u32],
    buffers: &'static [u32],
}

/// Before there is a context, and in the allocator, which is called for no context (§2, §5).
const fn nowhere(callback: &'static str) -> Place {
    Place { callback, stream: false, root: false, over: false, maps: &[], made: &[], buffers: &[6] }
}

const fn root(callback: &'static str, buffers: &'static [u32]) -> Place {
    Place { callback, stream: false, root: true, over: false, maps: &[], made: &[], buffers }
}

const fn stream(callback: &'static str, maps: &'static [u32], buffers: &'static [u32]) -> Place {
    Place { callback, stream: true, root: true, over: false, maps, made: &[], buffers }
}

/// A reply to a call, which comes to the root that made it (§10).
const fn reply(callback: &'static str, maps: &'static [u32], buffers: &'static [u32]) -> Place {
    Place { maps, ..root(callback, buffers) }
}

const fn over(callback: &'static str, maps: &'static [u32]) -> Place {
    Place { callback, stream: true, root: true, over: true, maps, made: &[], buffers: &[6] }
}

/// Of every instance, whatever it does later. The plugin's configuration is there while a root is
/// made, started and configured (§2).
const STARTING: [Place; 4] = [
    nowhere("initialize"),
    root("root_create", &[6, 7]),
    root("vm_start", &[6, 7]),
    root("configure", &[6, 7]),
];

const ENDING: [Place; 2] = [root("root_done", &[6]), root("root_delete", &[6])];

/// An exchange whose bodies have trailers: the body callbacks do not see the end.
const WITH_TRAILERS: [Place; 10] = [
    stream("stream_create", &[0], &[6]),
    stream("request_headers", &[0], &[6]),
    stream("request_body", &[0], &[0, 6]),
    stream("request_trailers", &[0, 1], &[0, 6]),
    stream("response_headers", &[0, 1, 2], &[6]),
    stream("response_body", &[0, 1, 2], &[1, 6]),
    stream("response_trailers", &[0, 1, 2, 3], &[1, 6]),
    over("done", &[0, 1, 2, 3]),
    over("log", &[0, 1, 2, 3]),
    over("delete", &[0, 1, 2, 3]),
];

/// One whose bodies end without: their last callback makes them, so that some can be added (§9).
const WITHOUT_TRAILERS: [Place; 8] = [
    stream("stream_create", &[0], &[6]),
    stream("request_headers", &[0], &[6]),
    Place { made: &[1], ..stream("request_body", &[0, 1], &[0, 6]) },
    stream("response_headers", &[0, 2], &[6]),
    Place { made: &[3], ..stream("response_body", &[0, 2, 3], &[1, 6]) },
    over("done", &[0, 2]),
    over("log", &[0, 2]),
    over("delete", &[0, 2]),
];

/// A request that got no response, and one that ended before it came to the plugin.
const WITHOUT_RESPONSE: [Place; 5] = [
    stream("stream_create", &[0], &[6]),
    stream("request_headers", &[0], &[6]),
    over("done", &[0]),
    over("log", &[0]),
    over("delete", &[0]),
];

/// What comes to a root while it works.
const ROOTS: [Place; 7] = [
    root("tick", &[6]),
    root("queue_ready", &[6]),
    reply("http_call_response", &[6, 7], &[4, 6]),
    reply("grpc_initial_metadata", &[4], &[6]),
    reply("grpc_receive", &[], &[5, 6]),
    reply("grpc_trailing_metadata", &[5], &[6]),
    root("grpc_close", &[6]),
];

/// A reply whose callback has made a waiting stream the effective context: that one's headers are
/// there beside the reply (§5, §10).
const VISITING: [Place; 1] =
    [Place { stream: true, ..reply("http_call_response", &[0, 6, 7], &[4, 6]) }];

const ALLOCATOR: [Place; 1] = [nowhere("allocate")];

/// A way that a stream can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    WithTrailers,
    WithoutTrailers,
    WithoutResponse,
    /// The calls are made inside of the allocator, while a header is being given.
    Allocator,
    /// The calls are made where there is no stream: at ticks, queue items and replies.
    Roots,
    /// The calls are made in a reply, for the stream that waits for it.
    Visiting,
}

impl Way {
    pub(super) const ALL: [Self; 6] = [
        Self::WithTrailers,
        Self::WithoutTrailers,
        Self::WithoutResponse,
        Self::Allocator,
        Self::Roots,
        Self::Visiting,
    ];

    /// All callbacks on this way, with what is there in them.
    pub(super) fn places(self) -> Vec<Place> {
        let stream: &[Place] = match self {
            Self::WithTrailers => &WITH_TRAILERS,
            Self::WithoutTrailers => &WITHOUT_TRAILERS,
            Self::WithoutResponse => &WITHOUT_RESPONSE,
            Self::Allocator => return ALLOCATOR.to_vec(),
            Self::Roots => return ROOTS.to_vec(),
            Self::Visiting => return VISITING.to_vec(),
        };
        [&STARTING, stream, &ENDING].concat()
    }
}

/// How the answer of a call follows from its place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect {
    Always(u32),
    /// OK on a stream, this elsewhere.
    OnStream(u32),
    /// OK where there is a root, this elsewhere.
    OnRoot(u32),
    /// The id of the first root, which lives from its creation on.
    Live,
    /// All pairs of a map: one that is not there is empty (§8).
    Pairs(u32),
    /// A value of a map, which has it.
    Value(u32),
    /// A value of a map, which has it not.
    Missing(u32),
    /// The size of a map.
    Size(u32),
    /// A change of a map.
    Change(u32),
    /// A part of a buffer, or its status.
    Buffer(u32),
    /// A change of a buffer.
    SetBuffer(u32),
}

impl Place {
    /// The one answer the reference has for a call with good pointers.
    pub(super) fn answer(&self, expect: Expect) -> u32 {
        let there = |map| self.maps.contains(&map);
        // A map that is only missing when all is over (§8: rust-sdk #82).
        let absent = |map| if self.over && map <= MAP_LAST { NOT_FOUND } else { BAD_ARGUMENT };
        match expect {
            Expect::Always(status) => status,
            Expect::OnStream(elsewhere) if !self.stream => elsewhere,
            Expect::OnRoot(elsewhere) if !self.root => elsewhere,
            Expect::Live => if_else(self.callback == "initialize", BAD_ARGUMENT, OK),
            Expect::OnStream(_) | Expect::OnRoot(_) => OK,
            Expect::Pairs(map) => if_else(map <= MAP_LAST, OK, BAD_ARGUMENT),
            Expect::Value(map) if self.made.contains(&map) => NOT_FOUND,
            Expect::Value(map) => if_else(there(map), OK, absent(map)),
            Expect::Missing(map) => if_else(there(map), NOT_FOUND, absent(map)),
            Expect::Size(map) => if_else(there(map), OK, BAD_ARGUMENT),
            Expect::Change(map) => {
                if_else(there(map) && !self.over && map < MAP_FIXED, OK, BAD_ARGUMENT)
            }
            Expect::Buffer(buffer) if buffer > BUFFER_LAST => BAD_ARGUMENT,
            Expect::SetBuffer(buffer) if buffer >= BUFFER_FIXED => BAD_ARGUMENT,
            Expect::Buffer(buffer) | Expect::SetBuffer(buffer) => {
                if_else(self.buffers.contains(&buffer), OK, NOT_FOUND)
            }
        }
    }

    /// The answers allowed to the same call with a pointer or length that leaves the memory (§6).
    /// Where the call would fail anyway, the reference does not say what is looked at first.
    pub(super) fn answers_to_bad_memory(&self, expect: Expect) -> [u32; 2] {
        let good = self.answer(expect);
        [BAD_MEMORY, if_else(good == OK, BAD_MEMORY, good)]
    }
}

fn if_else(condition: bool, yes: u32, no: u32) -> u32 {
    if condition { yes } else { no }
}
