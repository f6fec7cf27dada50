// The plugin fault-injection answers a share of the requests with a fixed response instead of letting them
// reach the upstream.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	"plugins/go/proxywasm"
)

// The module is a reactor: the host calls what is exported below, and never this.
func main() {}

// One configuration. The streams made under it share it.
type fault struct {
	status     uint32
	body       []byte
	percentage uint32
}

// What each live context works with, be it a root or a stream under one. A root has nothing before it is
// configured.
var contexts = map[uint32]*fault{}

func configured(document []byte) (*fault, error) {
	if len(document) == 0 {
		return nil, errors.New("the configuration is empty")
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(document, &fields); err != nil || fields == nil {
		if json.Valid(document) {
			return nil, errors.New("the configuration must be a JSON object")
		}
		return nil, fmt.Errorf("the configuration is not JSON: %w", err)
	}
	fault := &fault{percentage: 100}
	if fields["http_status"] == nil {
		return nil, errors.New("http_status is required")
	}
	if err := integer(fields, "http_status", 200, 999, &fault.status); err != nil {
		return nil, err
	}
	if err := integer(fields, "percentage", 0, 100, &fault.percentage); err != nil {
		return nil, err
	}
	if text := fields["body"]; text != nil {
		// A null would be taken for no body at all.
		var body *string
		if err := json.Unmarshal(text, &body); err != nil || body == nil {
			return nil, errors.New("body must be a string")
		}
		fault.body = []byte(*body)
	}
	return fault, nil
}

// Reads the integer under a name, if there is one.
func integer(fields map[string]json.RawMessage, name string, least, most uint32, into *uint32) error {
	text := fields[name]
	if text == nil {
		return nil
	}
	var number *uint32
	if err := json.Unmarshal(text, &number); err != nil || number == nil || *number < least || *number > most {
		return fmt.Errorf("%s must be an integer from %d to %d", name, least, most)
	}
	*into = *number
	return nil
}

func (fault *fault) fires() bool {
	switch fault.percentage {
	case 0, 100:
		return fault.percentage == 100
	default:
		// Seeded once by the runtime, then computed in the plugin.
		return rand.Uint32N(100) < fault.percentage
	}
}

//go:wasmexport proxy_on_context_create
func onContextCreate(context, parent uint32) {
	contexts[context] = contexts[parent]
}

//go:wasmexport proxy_on_configure
func onConfigure(context, size uint32) bool {
	fault, err := configured(proxywasm.Configuration(size))
	if err != nil {
		proxywasm.LogError("fault-injection: %v", err)
		return false
	}
	contexts[context] = fault
	return true
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(context, _, _ uint32) proxywasm.Action {
	fault := contexts[context]
	if !fault.fires() {
		return proxywasm.Continue
	}
	proxywasm.Respond(fault.status, fault.body)
	return proxywasm.Pause
}

//go:wasmexport proxy_on_delete
func onDelete(context uint32) {
	delete(contexts, context)
}
