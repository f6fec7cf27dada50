//! Every bound of the gateway in one place: unit last in the name, reason above.
//!
//! Reaching a bound is a normal, counted outcome with a status of its own, never a surprise. Bounds
//! a user may change are defaults here; the configuration names the key that changes them.

/// Request and response heads. nginx allows four buffers of 8 KiB; one contiguous 32 KiB head is
/// the same in sum. Key: `ringgate.limits.head_bytes`.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Header fields of one head. Clients send 10 to 30; 100 is what most servers allow.
/// Key: `ringgate.limits.headers`.
pub const HEADERS_MAX: usize = 100;

/// The most that `ringgate.limits.headers` may be set to: the parser's table lives on the stack.
pub const HEADERS_CEILING: usize = 256;

/// Chunk size line with extensions. A size needs 16 digits; extensions are ignored, so long ones
/// are only an attack (RFC 9112 §7.1.1).
pub const CHUNK_LINE_BYTES_MAX: usize = 4 * 1024;

/// Chunk extensions of one body, all together: one byte in each chunk must not come with kilobytes
/// that nobody reads (RFC 9112 §7.1.1).
pub const CHUNK_EXTENSIONS_BYTES_MAX: usize = 16 * 1024;

/// Trailer section, counted like a head.
pub const TRAILERS_BYTES_MAX: usize = 8 * 1024;

/// Header fields of one section once plugins edit it, and pairs of a map they hand over (as in
/// proxy-wasm-cpp-host). Far more than any peer takes; without a bound a guest could make a section
/// that takes a worker seconds to look through.
pub const SECTION_FIELDS_MAX: usize = 1024;

/// Bytes of such a section, as lines, and of such a map.
pub const SECTION_BYTES_MAX: usize = 1024 * 1024;

/// Body bytes a plugin may hold back per direction of one exchange, default. Beyond it a request is
/// answered 413 and a response 500 (Proxy-Wasm ABI reference §9). Key: `limits.body_mb` of a
/// plugin.
pub const HELD_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that the running HTTP calls of one instance have to send, and those that one callback
/// leaves behind in calls and messages: they are copies, which the guest's own limit does not
/// count.
pub const CALLOUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of messages that wait to be sent on one gRPC stream: a peer that takes them slowly must
/// not fill our memory.
pub const GRPC_BACKLOG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// First size of a connection's read buffer: one small request, half a page of waste at most.
pub const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Size of the buffer that bodies are read into: large enough that a 64 KiB socket read needs one
/// system call, small enough for thousands of streaming exchanges.
pub const BODY_BUFFER_BYTES: usize = 64 * 1024;

/// Read buffer of either side of a tunnel: most of those are silent most of the time, and there may
/// be very many.
pub const TUNNEL_BUFFER_BYTES: usize = 8 * 1024;

/// Output gathered before a connection stops answering pipelined requests and sends first.
pub const OUTPUT_BYTES_HIGH: usize = 64 * 1024;

/// Buffers above this size are given back to the allocator instead of to a pool, so that one large
/// exchange does not pin memory for ever.
pub const POOLED_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a worker's pool of buffers. A connection gives back more than it took (its output was
/// made elsewhere), so without a bound every connection that closes would leave something behind.
pub const BUFFER_POOL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The worker's tick: resolution of coarse deadlines, of the cached date and of the stop flag.
pub const TICK_MS: u64 = 50;

/// How often a client is looked at of which no operation would hear, as its request waits for the
/// upstream or for a plugin: what it holds is free again soon, and a look is one system call.
pub const CLIENT_LOOK_MS: u64 = 1_000;

/// How long a connection of a draining worker is kept since its last answer: time for a request
/// that was sent before the client could know to arrive. Longer than a round trip around the world.
pub const DRAIN_IDLE_MS: u64 = 1_000;

/// Longest `delay.duration` a fault may ask for before the worker's deadline table would overflow.
pub const DELAY_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// How long a plugin may hold a message without resuming it; then the client gets a 504.
pub const HOLD_MS_MAX: u64 = 60_000;

/// Request body bytes that are read and thrown away after an early response so that the connection
/// can be kept; with more to come it is closed.
pub const DISCARD_BYTES_MAX: u64 = 256 * 1024;

/// Bytes waiting for one side before the other side is read no further.
pub const BACKLOG_BYTES_MAX: usize = 128 * 1024;

/// Keys that one `limit-count`, `limit-req` or `limit-conn` counts before those used longest ago
/// are forgotten; as many may be on their way out. An entry has some 48 bytes: 6 MB at most.
pub const COUNTED_KEYS_MAX: usize = 64 * 1024;

/// Payload of one frame to or from a runner: what three bytes can say (external plugin reference
/// §3).
pub const RUNNER_FRAME_BYTES_MAX: usize = (1 << 24) - 1;

/// Tables in one frame of a runner. Each header field is one; a frame that points to the same one
/// over and over must not take seconds to verify.
pub const RUNNER_TABLES_MAX: usize = 8 * 1024;

/// Points of the ring of one upstream with `chash`: 160 for each share of its weights, 8 bytes
/// each, so 13 MB at most. That is weights of 10,000 in sum, after division by what they have in
/// common.
pub const RING_POINTS_MAX: u64 = 1_600_000;

/// Times a call is tried when the runner has forgotten its configuration, the first included, as in
/// APISIX.
pub const RUNNER_TRIES_MAX: u8 = 3;

/// Connections of one worker to one runner. Each is a thread or less in every runner there is.
/// Key: `connections` of a runner.
pub const RUNNER_CONNECTIONS: usize = 128;

/// Calls of one worker that may wait for a connection to a runner. Key: `queue` of a runner.
pub const RUNNER_QUEUE: usize = 1024;

/// How long a call to a runner may take. APISIX waits 60 s between two reads, which is as long as
/// a plugin may hold a request here: the runner's failure should be what ends it. Key:
/// `call_timeout` of a runner.
pub const RUNNER_CALL_MS: u64 = 55_000;

/// How long a call waits for a runner that is not there: one that is being started takes a second
/// or two. Key: `start_timeout` of a runner.
pub const RUNNER_START_MS: u64 = 3_000;

/// What may follow the first sixteen bytes of a PROXY protocol header of version 2: addresses, and
/// additions that mean nothing here. Load balancers of clouds send some hundred bytes.
pub const PROXY_HEADER_BYTES_MAX: usize = 2 * 1024;

/// How long a connection to a runner may be idle, as in APISIX.
pub const RUNNER_IDLE_MS: u64 = 180_000;

/// Chains of routes with a consumer's plugins that a worker keeps, of some kilobytes each; when
/// there are more pairs of route and consumer, the worker makes them anew now and then.
pub const JOINED_CHAINS_MAX: usize = 4096;

/// What a worker gathers of the access log before it hands it over; nginx's buffer in APISIX. What
/// is there is handed over at the next tick in any case.
pub const ACCESS_BUFFER_BYTES: usize = 16 * 1024;

/// What a worker gathers of it when nobody takes it: the disk stands still. Lines after that are
/// dropped.
pub const ACCESS_BUFFER_BYTES_MAX: usize = 1024 * 1024;

const _: () = assert!(ACCESS_BUFFER_BYTES < ACCESS_BUFFER_BYTES_MAX);
const _: () = assert!(RUNNER_CALL_MS < HOLD_MS_MAX);

/// Field lines of a connection's last request, or of the last response to an exchange, that are
/// kept to know the next ones by: a browser's come to some hundred bytes in a dozen of lines.
pub const SEEN_BYTES_MAX: usize = 1024;

/// How many such lines are kept.
pub const SEEN_LINES_MAX: usize = 32;

/// The most memory that a connection holds between two requests or while a head arrives: its read
/// buffer, grown in doublings to the longest head by default, the authority it named last with its
/// host, output that was not sent yet, the lines of its last request, and half a page of
/// bookkeeping. With `ringgate.limits.connections` it bounds what idle clients cost.
pub const IDLE_CONNECTION_BYTES_MAX: usize =
    2 * HEAD_BYTES_MAX + 2 * HEAD_BYTES_MAX + 2 * OUTPUT_BYTES_HIGH + 2 * SEEN_BYTES_MAX + 2 * 1024;

/// What waits for one side: as much as may wait before reading stops, and one read more. Three
/// times, for one piece may be on its way, the next one gather, and a third be decoded and not
/// written yet; twice that, as buffers grow in doublings and keep their size.
const WAITING_BYTES_MAX: usize = 3 * 2 * (BACKLOG_BYTES_MAX + BODY_BUFFER_BYTES);

/// The most that a running exchange holds beside that, without plugins that hold bodies back: its
/// head as a message, what waits for either side, a buffer for reading from each, and the lines of
/// the last response.
pub const EXCHANGE_BYTES_MAX: usize =
    2 * HEAD_BYTES_MAX + 2 * WAITING_BYTES_MAX + 2 * BODY_BUFFER_BYTES + 2 * SEEN_BYTES_MAX;

/// What each plugin that holds bodies adds, by default: one body each way.
pub const HOLDING_BYTES_MAX: usize = 2 * HELD_BODY_BYTES_MAX;

const _: () = assert!(IDLE_CONNECTION_BYTES_MAX == 260 * 1024);
const _: () = assert!(EXCHANGE_BYTES_MAX == 2498 * 1024);
const _: () = assert!(PROXY_HEADER_BYTES_MAX < READ_BUFFER_BYTES);
const _: () = assert!(HEADERS_MAX <= HEADERS_CEILING);
const _: () = assert!(HEADERS_CEILING <= SECTION_FIELDS_MAX);
const _: () = assert!(HEAD_BYTES_MAX <= SECTION_BYTES_MAX);
const _: () = assert!(GRPC_BACKLOG_BYTES_MAX <= CALLOUT_BYTES_MAX);
const _: () = assert!(READ_BUFFER_BYTES <= HEAD_BYTES_MAX);
const _: () = assert!(POOLED_BUFFER_BYTES_MAX <= BUFFER_POOL_BYTES_MAX);
const _: () = assert!(TRAILERS_BYTES_MAX <= HEAD_BYTES_MAX);
const _: () = assert!(CHUNK_LINE_BYTES_MAX < BODY_BUFFER_BYTES);
const _: () = assert!(TUNNEL_BUFFER_BYTES <= BODY_BUFFER_BYTES);
const _: () = assert!(BODY_BUFFER_BYTES <= POOLED_BUFFER_BYTES_MAX);
