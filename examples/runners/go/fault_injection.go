package main

import (
	"encoding/json"
	"errors"
	"math/rand"
	"net/http"

	pkgHTTP "github.com/apache/apisix-go-plugin-runner/pkg/http"
	"github.com/apache/apisix-go-plugin-runner/pkg/plugin"
)

// FaultInjection answers some requests itself, as the native plugin of that name does.
type FaultInjection struct {
	plugin.DefaultPlugin
}

type faultConf struct {
	HTTPStatus int    `json:"http_status"`
	Body       string `json:"body"`
	Percentage *int   `json:"percentage"`
}

func (*FaultInjection) Name() string { return "fault-injection" }

func (*FaultInjection) ParseConf(in []byte) (interface{}, error) {
	conf := faultConf{HTTPStatus: http.StatusOK}
	if err := json.Unmarshal(in, &conf); err != nil {
		return nil, err
	}
	if conf.HTTPStatus < 200 || conf.HTTPStatus > 599 {
		return nil, errors.New("http_status is a number from 200 to 599")
	}
	if conf.Percentage != nil && (*conf.Percentage < 0 || *conf.Percentage > 100) {
		return nil, errors.New("percentage is a number from 0 to 100")
	}
	return conf, nil
}

func (*FaultInjection) RequestFilter(conf interface{}, w http.ResponseWriter, _ pkgHTTP.Request) {
	fault := conf.(faultConf)
	if fault.Percentage != nil && rand.Intn(100) >= *fault.Percentage {
		return
	}
	w.WriteHeader(fault.HTTPStatus)
	if _, err := w.Write([]byte(fault.Body)); err != nil {
		panic(err) // Writing to the runner's buffer cannot fail.
	}
}
