// The plugin fault-injection answers a share of the requests with a fixed response instead of letting them
// reach the upstream.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

// The module is a reactor: the host calls what the SDK exports, and never this.
func main() {}

func init() {
	proxywasm.SetPluginContext(func(uint32) types.PluginContext { return &plugin{} })
}

// One configuration.
type plugin struct {
	types.DefaultPluginContext
	fault *fault
}

// What it says. The streams made under it share it.
type fault struct {
	status     uint32
	body       []byte
	percentage uint32
}

type stream struct {
	types.DefaultHttpContext
	fault *fault
}

func (plugin *plugin) OnPluginStart(int) types.OnPluginStartStatus {
	document, err := proxywasm.GetPluginConfiguration()
	if err == nil {
		plugin.fault, err = configured(document)
	} else if errors.Is(err, types.ErrorStatusNotFound) {
		// How the SDK says that it is empty.
		plugin.fault, err = configured(nil)
	}
	if err != nil {
		proxywasm.LogErrorf("fault-injection: %v", err)
		return types.OnPluginStartStatusFailed
	}
	return types.OnPluginStartStatusOK
}

func (plugin *plugin) NewHttpContext(uint32) types.HttpContext {
	return &stream{fault: plugin.fault}
}

func (stream *stream) OnHttpRequestHeaders(int, bool) types.Action {
	fault := stream.fault
	if !fault.fires() {
		return types.ActionContinue
	}
	// -1: no status of gRPC.
	if err := proxywasm.SendHttpResponse(fault.status, nil, fault.body, -1); err != nil {
		// A request that waits for an answer nobody gives would wait for ever.
		panic(err)
	}
	return types.ActionPause
}

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
