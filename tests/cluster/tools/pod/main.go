// Command pod is what runs inside: as the first process of a node, as the pause container of every pod, and as the
// program of the cluster's own test pods. It is static and small, since each node imports it as an image.
//
//	pod pause                     waits for a signal and reaps what is left to it
//	pod serve ADDRESS TEXT        answers every TCP connection with TEXT
//	pod ask NAME:PORT [SECONDS]   resolves, connects, prints the answer; tries again until the time is over
//	pod reach NAME:PORT [SECONDS] as ask, but only connects
//	pod certs DIR < LIST          makes a certificate authority and the certificates of the list
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pod:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 1 && args[0] == "pause":
		pause()
		return nil
	case len(args) == 3 && args[0] == "serve":
		return serve(args[1], args[2])
	case len(args) >= 2 && args[0] == "ask":
		return ask(args[1:], askOnce)
	case len(args) >= 2 && args[0] == "reach":
		return ask(args[1:], reachOnce)
	case len(args) == 2 && args[0] == "certs":
		return certs(args[1], os.Stdin)
	}
	return fmt.Errorf("usage: pod pause | serve ADDRESS TEXT | ask NAME:PORT [SECONDS] | reach NAME:PORT [SECONDS] | certs DIR")
}

// pause is PID 1 of a pod or node: children whose parents ended become its own, and nobody else reaps them.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for got := range signals {
		if got != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 && err != syscall.EINTR {
				break
			}
		}
	}
}

func serve(address, text string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		<-signals
		os.Exit(0)
	}()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			_, _ = io.WriteString(connection, text)
		}()
	}
}

func ask(args []string, once func(string) (string, error)) error {
	seconds := 0
	if len(args) > 1 {
		var err error
		if seconds, err = strconv.Atoi(args[1]); err != nil {
			return err
		}
	}
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	for {
		answer, err := once(args[0])
		if err == nil {
			_, err = fmt.Println(answer)
			return err
		}
		if time.Now().After(end) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func askOnce(address string) (string, error) {
	connection, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(connection)
	return string(answer), err
}

func reachOnce(address string) (string, error) {
	connection, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return "", err
	}
	return "reached", connection.Close()
}
