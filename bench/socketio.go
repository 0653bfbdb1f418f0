package main

import (
	"os"
	"os/exec"
	"path/filepath"
)

func init() {
	register(&peer{
		name: "socketio",
		note: "socket.io on Node, default parser, acknowledgements as replies; not all works",
		speak: dialect{
			Path:  "/socket.io/?EIO=4&transport=websocket",
			Hello: []string{"40"},
			Ready: "40{",
			Join:  `421["join","bench:{topic}"]`,
			Leave: `422["leave","bench:{topic}"]`,
			Echo:  `420["echo",{payload}]`,
			Ping:  "2",
			Pong:  "3",
		},
		argv:  socketioArgv,
		works: []string{"echo", "handshake", "churn", "joins"},
		every: 2,
	})
}

// socketioArgv needs Node and the packages of socketio/package.json.
func socketioArgv() []string {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil
	}
	dir := "socketio"
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "socket.io")); err != nil {
		return nil
	}
	return []string{node, "--expose-gc", filepath.Join(dir, "server.js")}
}
