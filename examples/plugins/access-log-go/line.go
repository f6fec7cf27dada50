package main

import (
	"encoding/json"
	"strconv"
	"time"

	"plugins/go/proxywasm"
)

// One finished request. The fields are in the order in which they are written.
type line struct {
	Time       string            `json:"time"`
	Client     string            `json:"client"`
	Method     string            `json:"method"`
	Host       string            `json:"host"`
	Path       string            `json:"path"`
	Status     int64             `json:"status"`
	DurationMs float64           `json:"duration_ms"`
	Received   int64             `json:"request_bytes"`
	Sent       int64             `json:"response_bytes"`
	Route      string            `json:"route,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
}

// The line of the request whose context is current, in its log phase.
func describe(headers []string) []byte {
	line := line{
		Time:       time.Unix(0, proxywasm.Number("request\x00time")).UTC().Format(time.RFC3339Nano),
		Client:     text("source\x00address"),
		Method:     proxywasm.Header(proxywasm.RequestHeaders, ":method"),
		Host:       proxywasm.Header(proxywasm.RequestHeaders, ":authority"),
		Path:       proxywasm.Header(proxywasm.RequestHeaders, ":path"),
		DurationMs: float64(proxywasm.Number("request\x00duration")) / float64(time.Millisecond),
		Received:   proxywasm.Number("request\x00size"),
		Sent:       proxywasm.Number("response\x00size"),
		Route:      text("route_name"),
	}
	// A response may have been cut off before there was a status.
	line.Status, _ = strconv.ParseInt(proxywasm.Header(proxywasm.ResponseHeaders, ":status"), 10, 64)
	for _, name := range headers {
		if value := proxywasm.Header(proxywasm.RequestHeaders, name); value != "" {
			if line.Headers == nil {
				line.Headers = map[string]string{}
			}
			line.Headers[name] = value
		}
	}
	// Texts and numbers can't fail to be encoded; what is not UTF-8 in them is replaced.
	encoded, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	return encoded
}

func text(path string) string {
	value, _ := proxywasm.Property(path)
	return string(value)
}
