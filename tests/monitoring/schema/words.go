package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const module = "github.com/grafana/grafana-foundation-sdk/go"

// words checks that values of enumerations are values that the schema has. To Go's decoding, which knows the type but
// not its constants, every string is as good as another.
func (c *check) words(path string, value reflect.Value) {
	switch value.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !value.IsNil() {
			c.words(path, value.Elem())
		}
	case reflect.Slice:
		for i := range value.Len() {
			c.words(fmt.Sprintf("%s[%d]", path, i), value.Index(i))
		}
	case reflect.Struct:
		for i := range value.NumField() {
			at := path
			// The alternatives of a union have capitals here and no name in the file.
			if name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ","); !token.IsExported(name) {
				at += "." + name
			}
			c.words(at, value.Field(i))
		}
	case reflect.String, reflect.Int64, reflect.Uint8:
		folder, ours := strings.CutPrefix(value.Type().PkgPath(), module)
		if !ours {
			return
		}
		text := fmt.Sprint(value)
		if value.Kind() == reflect.String {
			text = strconv.Quote(text)
		}
		constants, err := enumerations(folder)
		c.add(path, err)
		if allowed := constants[value.Type().Name()]; len(allowed) > 0 && !slices.Contains(allowed, text) {
			c.add(path, fmt.Errorf("%s is none of %s", text, strings.Join(allowed, ", ")))
		}
	}
}

// enumerations is the values, as Go writes them, of each enumeration of a package of the module. They are read from its
// source: a program cannot ask for the constants of a type.
func enumerations(folder string) (map[string][]string, error) {
	if known[folder] != nil {
		return known[folder], nil
	}
	root, err := source()
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, folder, "types_gen.go"), nil, 0)
	if err != nil {
		return nil, err
	}
	known[folder] = map[string][]string{}
	ast.Inspect(file, func(node ast.Node) bool {
		if constant, is := node.(*ast.ValueSpec); is && constant.Type != nil && len(constant.Values) == 1 {
			name := types.ExprString(constant.Type)
			known[folder][name] = append(known[folder][name], types.ExprString(constant.Values[0]))
		}
		return true
	})
	return known[folder], nil
}

var known = map[string]map[string][]string{}

// source is the module's folder.
var source = sync.OnceValues(func() (string, error) {
	said, err := exec.Command("go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module).Output()
	return strings.TrimSpace(string(said)), err
})
