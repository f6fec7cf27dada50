// Package proxywasm is the part of the Proxy-Wasm ABI 0.2.1 that the Go plugins here use, for the standard
// toolchain: GOOS=wasip1, -buildmode=c-shared.
//
// It exports the ABI's version and the allocator. A plugin exports its callbacks itself, those that it has
// work for, and the host saves itself the others:
//
//	//go:wasmexport proxy_on_request_headers
//	func onRequestHeaders(context, headers, endOfStream uint32) proxywasm.Action { ... }
package proxywasm

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// Action is what a callback for headers or a body wants to happen next.
type Action = uint32

const (
	Continue Action = 0
	Pause    Action = 1
)

// Status is how a host function went; not OK, it is an error.
type Status uint32

const (
	OK       Status = 0
	NotFound Status = 1
	Empty    Status = 7
)

func (status Status) Error() string {
	names := map[Status]string{
		NotFound: "not found", 2: "bad argument", 6: "invalid memory access", Empty: "empty",
		8: "compare-and-swap mismatch", 10: "internal failure", 12: "unimplemented",
	}
	if name, known := names[status]; known {
		return name
	}
	return fmt.Sprintf("status %d", uint32(status))
}

func failed(status uint32) error {
	if Status(status) == OK {
		return nil
	}
	return Status(status)
}

// Header maps.
const (
	RequestHeaders      = 0
	ResponseHeaders     = 2
	CallResponseHeaders = 6
)

const (
	pluginConfiguration = 7
	errorLevel          = 4
	counter             = 0
	noGRPCStatus        = -1
)

//go:wasmexport proxy_abi_version_0_2_1
func abiVersion() {}

// LogError writes a line to the host's log.
func LogError(format string, values ...any) {
	at, size := text(fmt.Sprintf(format, values...))
	hostLog(errorLevel, at, size)
}

// Configuration is that of the plugin which is being configured; empty if it has none.
func Configuration(size uint32) []byte {
	var answer answer
	at, got := answer.out()
	if failed(hostBufferBytes(pluginConfiguration, 0, size, at, got)) != nil {
		return nil
	}
	return answer.take()
}

// Header is the first value of a field, or an empty text.
func Header(headers uint32, name string) string {
	var answer answer
	at, got := answer.out()
	nameAt, nameSize := text(name)
	if failed(hostHeader(headers, nameAt, nameSize, at, got)) != nil {
		return ""
	}
	return string(answer.take())
}

// Property is the value at a path, whose parts are separated by NUL. False if there is none.
func Property(path string) ([]byte, bool) {
	var answer answer
	at, got := answer.out()
	pathAt, pathSize := text(path)
	if failed(hostProperty(pathAt, pathSize, at, got)) != nil {
		return nil, false
	}
	return answer.take(), true
}

// Number is a property that is a 64-bit integer, or 0.
func Number(path string) int64 {
	value, _ := Property(path)
	if len(value) != 8 {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(value))
}

// Respond answers the request instead of the upstream. The callback returns Pause then.
func Respond(status uint32, body []byte) {
	at, size := bytes(body)
	sent := hostRespond(status, nil, 0, at, size, nil, 0, noGRPCStatus)
	if err := failed(sent); err != nil {
		// A request that waits for an answer nobody gives would wait for ever.
		panic(err)
	}
}

// Field is one header field.
type Field struct{ Name, Value string }

// Call sends a request to an upstream of the host. What becomes of it comes to
// proxy_on_http_call_response of the root context, under the token.
func Call(upstream string, headers []Field, body []byte, timeoutMilliseconds uint32) (token uint32, err error) {
	upstreamAt, upstreamSize := text(upstream)
	headersAt, headersSize := bytes(encoded(headers))
	bodyAt, bodySize := bytes(body)
	status := hostCall(
		upstreamAt, upstreamSize, headersAt, headersSize, bodyAt, bodySize, nil, 0,
		timeoutMilliseconds, unsafe.Pointer(&token))
	return token, failed(status)
}

// Fields as host and plugin exchange them: the count, all sizes, then names and values, each with a NUL
// behind it.
func encoded(fields []Field) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(fields)))
	for _, field := range fields {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(field.Name)))
		out = binary.LittleEndian.AppendUint32(out, uint32(len(field.Value)))
	}
	for _, field := range fields {
		out = append(append(out, field.Name...), 0)
		out = append(append(out, field.Value...), 0)
	}
	return out
}

// TickEvery has proxy_on_tick of the current root context called again and again.
func TickEvery(milliseconds uint32) error { return failed(hostTickPeriod(milliseconds)) }

// Done tells the host that a root context which has answered proxy_on_done with false may be deleted now.
func Done() error { return failed(hostDone()) }

// Queue is a queue that all workers share.
type Queue uint32

// RegisterQueue opens a queue, which is made if it is new. The host calls proxy_on_queue_ready of the root
// context that has registered it last.
func RegisterQueue(name string) (queue Queue, err error) {
	at, size := text(name)
	err = failed(hostRegisterQueue(at, size, unsafe.Pointer(&queue)))
	return queue, err
}

// Put adds an item at the end.
func (queue Queue) Put(item []byte) error {
	at, size := bytes(item)
	return failed(hostEnqueue(uint32(queue), at, size))
}

// Take takes the first item. The error is Empty if there is none.
func (queue Queue) Take() ([]byte, error) {
	var answer answer
	at, got := answer.out()
	if err := failed(hostDequeue(uint32(queue), at, got)); err != nil {
		return nil, err
	}
	return answer.take(), nil
}

// Counter is a metric of the host.
type Counter uint32

// DefineCounter makes a counter, or finds the one of that name.
func DefineCounter(name string) (metric Counter, err error) {
	at, size := text(name)
	err = failed(hostDefineMetric(counter, at, size, unsafe.Pointer(&metric)))
	return metric, err
}

// Add counts up.
func (metric Counter) Add(by int) {
	if by > 0 {
		hostIncrementMetric(uint32(metric), int64(by))
	}
}
