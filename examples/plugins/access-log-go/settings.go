package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Where lines go, and how many at a time.
type settings struct {
	// Upstream is one as the host names it.
	Upstream string `json:"upstream"`
	Path     string `json:"path"`
	// Authority is what the collector is called; the upstream's name if it is not given.
	Authority string `json:"authority"`
	// Timeout is how long the collector may take, in milliseconds.
	Timeout uint32 `json:"timeout"`
	// BatchMaxSize is how many lines are sent at once, at most; as many that wait are sent at once.
	BatchMaxSize int `json:"batch_max_size"`
	// InactiveTimeout is how long a line waits for others, in milliseconds.
	InactiveTimeout uint32 `json:"inactive_timeout"`
	// MaxRetryCount is how often a batch is sent again that the collector did not take.
	MaxRetryCount int `json:"max_retry_count"`
	// Queue tells the lines of this configuration from those of others: equal names share a queue.
	Queue string `json:"queue"`
	// Headers of the request that are logged.
	Headers []string `json:"headers"`
}

func parse(document []byte) (*settings, error) {
	settings := &settings{
		Path: "/", Timeout: 3000, BatchMaxSize: 100, InactiveTimeout: 1000, MaxRetryCount: 3,
	}
	reader := json.NewDecoder(bytes.NewReader(document))
	reader.DisallowUnknownFields()
	if err := reader.Decode(settings); err != nil {
		return nil, fmt.Errorf("the configuration can't be read: %w", err)
	}
	if reader.More() {
		return nil, errors.New("the configuration goes on behind its object")
	}
	switch {
	case settings.Upstream == "":
		return nil, errors.New("upstream is required")
	case !strings.HasPrefix(settings.Path, "/") || strings.ContainsAny(settings.Path, " \r\n"):
		return nil, errors.New("path starts with / and has no blanks")
	case settings.Timeout < 1 || settings.Timeout > 60_000:
		return nil, errors.New("timeout is from 1 to 60000 milliseconds")
	case settings.BatchMaxSize < 1 || settings.BatchMaxSize > 10_000:
		return nil, errors.New("batch_max_size is from 1 to 10000 lines")
	case settings.InactiveTimeout < 10 || settings.InactiveTimeout > 60_000:
		return nil, errors.New("inactive_timeout is from 10 to 60000 milliseconds")
	case settings.MaxRetryCount < 0 || settings.MaxRetryCount > 100:
		return nil, errors.New("max_retry_count is from 0 to 100")
	}
	if settings.Authority == "" {
		settings.Authority = settings.Upstream
	}
	if settings.Queue == "" {
		settings.Queue = settings.Upstream + settings.Path
	}
	for at, name := range settings.Headers {
		settings.Headers[at] = strings.ToLower(name)
	}
	return settings, nil
}
