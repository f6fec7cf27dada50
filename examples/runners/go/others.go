package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	pkgHTTP "github.com/apache/apisix-go-plugin-runner/pkg/http"
	"github.com/apache/apisix-go-plugin-runner/pkg/plugin"
)

// Say answers with its body, if it has one.
type Say struct {
	plugin.DefaultPlugin
}

type sayConf struct {
	Body string `json:"body"`
}

func (*Say) Name() string { return "say" }

func (*Say) ParseConf(in []byte) (interface{}, error) {
	var conf sayConf
	return conf, json.Unmarshal(in, &conf)
}

func (*Say) RequestFilter(conf interface{}, w http.ResponseWriter, _ pkgHTTP.Request) {
	body := conf.(sayConf).Body
	if body == "" {
		return
	}
	w.Header().Add("X-Resp-A6-Runner", "Go")
	if _, err := w.Write([]byte(body)); err != nil {
		panic(err) // Writing to the runner's buffer cannot fail.
	}
}

// Rewrite changes a request: its path, headers, an argument, a header of the response to come. It
// asks the gateway for a variable and for the body on the way.
type Rewrite struct {
	plugin.DefaultPlugin
}

type rewriteConf struct {
	Path string `json:"path"`
}

func (*Rewrite) Name() string { return "rewrite" }

func (*Rewrite) ParseConf(in []byte) (interface{}, error) {
	var conf rewriteConf
	return conf, json.Unmarshal(in, &conf)
}

func (*Rewrite) RequestFilter(conf interface{}, w http.ResponseWriter, r pkgHTTP.Request) {
	route, err := r.Var("route_id")
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	body, err := r.Body()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if path := conf.(rewriteConf).Path; path != "" {
		r.SetPath([]byte(path))
	}
	r.Header().Set("X-Route", string(route))
	r.Header().Set("X-Body-Bytes", strconv.Itoa(len(body)))
	r.Header().Del("X-Secret")
	r.Args().Set("runner", "Go")
	r.RespHeader().Set("X-Rewritten", "yes")
}

// Respond changes a response: its body in upper case, and a header.
type Respond struct {
	plugin.DefaultPlugin
}

func (*Respond) Name() string { return "respond" }

func (*Respond) ParseConf([]byte) (interface{}, error) { return nil, nil }

func (*Respond) ResponseFilter(_ interface{}, w pkgHTTP.Response) {
	body, err := w.ReadBody()
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.Header().Set("X-Runner", "Go")
	if _, err := w.Write([]byte(strings.ToUpper(string(body)))); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
}
