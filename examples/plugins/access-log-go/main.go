// The plugin access-log writes a line of JSON for each request and sends the lines to a collector, many at a
// time.
//
//	log phase ─► queue ─► on_queue_ready, when there are enough ─┬─► callout ─► collector
//	                  └─► on_tick, when they have waited ────────┘
//
// The queue belongs to all workers. Each has a root context that may send, and whichever comes first takes
// the lines out.
package main

import (
	"errors"
	"strings"

	"plugins/go/proxywasm"
)

// The module is a reactor: the host calls what is exported below, and never this.
func main() {}

// Batches on their way at a time, at most. Lines wait in the queue meanwhile, which has a bound.
const callsMax = 4

// One configuration, on one worker.
type root struct {
	settings *settings
	queue    proxywasm.Queue
	// Lines that the host has told of since lines were taken last. Another root may have taken them.
	announced int
	// Batches that are on their way, by the token of their call.
	calls map[uint32]batch
	// Batches that the collector did not take and that are sent again at the next tick.
	retries []batch
	// The host wants to delete this root, and waits for the batches that are on their way.
	closing bool

	sent, dropped proxywasm.Counter
}

// Lines to be sent together, each with a line break behind it.
type batch struct {
	text  []byte
	lines int
	// How often it was sent.
	tries int
}

var (
	roots   = map[uint32]*root{}
	streams = map[uint32]*root{}
)

func (root *root) configure(document []byte) error {
	settings, err := parse(document)
	if err != nil {
		return err
	}
	queue, err := proxywasm.RegisterQueue("access-log " + settings.Queue)
	if err != nil {
		return err
	}
	sent, err := proxywasm.DefineCounter("access_log_lines_sent")
	if err != nil {
		return err
	}
	dropped, err := proxywasm.DefineCounter("access_log_lines_dropped")
	if err != nil {
		return err
	}
	root.settings, root.queue, root.sent, root.dropped = settings, queue, sent, dropped
	return proxywasm.TickEvery(settings.InactiveTimeout)
}

// Takes lines out of the queue, as many as go into one batch.
func (root *root) take() batch {
	var batch batch
	for batch.lines < root.settings.BatchMaxSize {
		line, err := root.queue.Take()
		if err != nil {
			if !errors.Is(err, proxywasm.Empty) {
				proxywasm.LogError("access-log: the queue gives no line: %v", err)
			}
			break
		}
		batch.text = append(append(batch.text, line...), '\n')
		batch.lines++
	}
	return batch
}

// Sends what waits while there are whole batches, and what is left of them too if asked to.
func (root *root) flush(all bool) {
	for len(root.calls) < callsMax {
		if !all && root.announced < root.settings.BatchMaxSize {
			return
		}
		batch := root.take()
		root.announced = max(0, root.announced-batch.lines)
		if batch.lines == 0 {
			root.announced = 0
			return
		}
		root.send(batch)
	}
}

func (root *root) send(batch batch) {
	batch.tries++
	settings := root.settings
	headers := []proxywasm.Field{
		{Name: ":method", Value: "POST"},
		{Name: ":path", Value: settings.Path},
		{Name: ":authority", Value: settings.Authority},
		{Name: ":scheme", Value: "http"},
		{Name: "content-type", Value: "application/x-ndjson"},
	}
	token, err := proxywasm.Call(settings.Upstream, headers, batch.text, settings.Timeout)
	if err != nil {
		root.failed(batch, err.Error())
		return
	}
	root.calls[token] = batch
}

// A batch was not taken: it is sent again later, or dropped where it was tried often enough.
func (root *root) failed(batch batch, why string) {
	if batch.tries <= root.settings.MaxRetryCount && !root.closing {
		root.retries = append(root.retries, batch)
		return
	}
	proxywasm.LogError("access-log: %d lines are lost, %s does not take them: %s",
		batch.lines, root.settings.Upstream, why)
	root.dropped.Add(batch.lines)
}

// Sends again what was not taken.
func (root *root) retry() {
	retries := root.retries
	root.retries = nil
	for _, batch := range retries {
		if len(root.calls) < callsMax {
			root.send(batch)
		} else {
			root.retries = append(root.retries, batch)
		}
	}
}

//go:wasmexport proxy_on_context_create
func onContextCreate(context, parent uint32) {
	if parent == 0 {
		roots[context] = &root{calls: map[uint32]batch{}}
	} else {
		streams[context] = roots[parent]
	}
}

//go:wasmexport proxy_on_configure
func onConfigure(context, size uint32) bool {
	if err := roots[context].configure(proxywasm.Configuration(size)); err != nil {
		proxywasm.LogError("access-log: %v", err)
		return false
	}
	return true
}

//go:wasmexport proxy_on_log
func onLog(context uint32) {
	root := streams[context]
	// A queue that is full is one whose collector has been away for long.
	if err := root.queue.Put(describe(root.settings.Headers)); err != nil {
		root.dropped.Add(1)
	}
}

//go:wasmexport proxy_on_queue_ready
func onQueueReady(context, _ uint32) {
	root := roots[context]
	root.announced++
	root.flush(false)
}

//go:wasmexport proxy_on_tick
func onTick(context uint32) {
	root := roots[context]
	root.retry()
	root.flush(true)
}

//go:wasmexport proxy_on_http_call_response
func onCallResponse(context, token, headers, _, _ uint32) {
	root := roots[context]
	batch, known := root.calls[token]
	if !known {
		return
	}
	delete(root.calls, token)
	status := ""
	// A call that failed has no headers at all, not even a status.
	if headers > 0 {
		status = proxywasm.Header(proxywasm.CallResponseHeaders, ":status")
	}
	switch {
	case status == "":
		root.failed(batch, "no answer")
	case !strings.HasPrefix(status, "2"):
		root.failed(batch, "status "+status)
	default:
		root.sent.Add(batch.lines)
	}
	if root.closing {
		root.close()
	}
}

// Sends the last lines. True once nothing is on its way any more.
func (root *root) close() bool {
	root.retry()
	root.flush(true)
	if len(root.calls) > 0 {
		return false
	}
	if root.closing {
		if err := proxywasm.Done(); err != nil {
			proxywasm.LogError("access-log: the host does not let the root go: %v", err)
		}
	}
	return true
}

// For a root: false where lines are on their way, whose end Done tells. For a stream: true.
//
//go:wasmexport proxy_on_done
func onDone(context uint32) bool {
	root, isRoot := roots[context]
	if !isRoot || root.settings == nil {
		return true
	}
	if root.close() {
		return true
	}
	root.closing = true
	return false
}

//go:wasmexport proxy_on_delete
func onDelete(context uint32) {
	delete(streams, context)
	delete(roots, context)
}
