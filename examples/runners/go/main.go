// A plugin runner for ringgate (and for Apache APISIX) on the official Go runner, with two plugins.
package main

import (
	"flag"
	"log"

	"github.com/apache/apisix-go-plugin-runner/pkg/plugin"
	"github.com/apache/apisix-go-plugin-runner/pkg/runner"
	"go.uber.org/zap/zapcore"
)

func main() {
	verbose := flag.Bool("verbose", false, "log every call")
	flag.Parse()
	for _, each := range []plugin.Plugin{&FaultInjection{}, &Say{}, &Rewrite{}, &Respond{}} {
		if err := plugin.RegisterPlugin(each); err != nil {
			log.Fatalf("plugin %s: %v", each.Name(), err)
		}
	}
	config := runner.RunnerConfig{LogLevel: zapcore.WarnLevel}
	if *verbose {
		config.LogLevel = zapcore.DebugLevel
	}
	// Listens on the socket that APISIX_LISTEN_ADDRESS names, until a signal ends it.
	runner.Run(config)
}
