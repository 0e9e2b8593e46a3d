// Command schema checks files of Grafana dashboards, in the classic model, against Grafana's own schema: the types of
// its Go package grafana-foundation-sdk are generated from it. It prints each fault as `file: path: what` and exits with
// 1 if there is one.
//
// The package's strict decoding refuses fields that are unknown, of another type or missing, even where Grafana has a
// default: its own files have them. It lets four things pass, which are checked here: `fieldConfig` outside `custom`,
// what overrides set, panels and queries of kinds that are not registered, and (words.go) words that are not in an
// enumeration. The schema itself leaves open the options of transformations and matchers, and a variable's query.
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	// Only what the dashboards use: all kinds that the package has (cog/plugins) take twice as long to build.
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(table.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	var status int
	for _, file := range os.Args[1:] {
		for _, fault := range faults(file) {
			fmt.Printf("%s: %s\n", file, fault)
			status = 1
		}
	}
	os.Exit(status)
}

// faults is all that is wrong with a file, each as `path: what`.
func faults(file string) []string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	var c check
	c.decoded("", raw, new(dashboard.Dashboard))
	var whole struct{ Panels []panel }
	_ = json.Unmarshal(raw, &whole) // A fault here has been found above.
	c.panels("panels", whole.Panels)
	slices.Sort(c)
	return slices.Compact(c)
}

// check gathers faults.
type check []string

// add takes the faults of an error. Where nothing is wrong, the package's error is an empty list and not nil.
func (c *check) add(path string, err error) {
	if err == nil {
		return
	}
	for _, fault := range cog.MakeBuildErrors(path, err) {
		*c = append(*c, strings.TrimLeft(fault.Error(), ".: "))
	}
}

// part is a part of the schema, as the package has it.
type part interface {
	UnmarshalJSONStrict(raw []byte) error
	Validate() error
}

// decoded checks a part.
func (c *check) decoded(path string, raw []byte, as part) {
	before := len(*c)
	c.add(path, as.UnmarshalJSONStrict(raw))
	if len(*c) > before {
		return
	}
	// Once more: the strict decoding checks a panel's options, custom settings and queries but does not keep them.
	kept := reflect.New(reflect.TypeOf(as).Elem())
	c.add(path, json.Unmarshal(raw, kept.Interface()))
	c.add(path, kept.Interface().(part).Validate())
	c.words(path, kept)
}

// panel is what is looked at apart from the package's own panel.
type panel struct {
	Type        string
	Targets     []json.RawMessage
	FieldConfig json.RawMessage
	Panels      []panel // of a row
}

func (c *check) panels(path string, panels []panel) {
	for i, panel := range panels {
		at := fmt.Sprintf("%s[%d]", path, i)
		if _, known := cog.ConfigForPanelcfgVariant(panel.Type); !known && panel.Type != "row" {
			c.add(at+".type", fmt.Errorf("main.go has to register %q", panel.Type))
		}
		for i, raw := range panel.Targets {
			// The strict decoding goes by the query's own data source, never by the panel's.
			query, _ := cog.UnmarshalDataquery(raw, "")
			if _, unknown := query.(variants.UnknownDataquery); unknown {
				c.add(fmt.Sprintf("%s.targets[%d].datasource", at, i), fmt.Errorf("main.go has to register its type"))
			}
		}
		if panel.FieldConfig != nil {
			c.settings(at, panel)
		}
		c.panels(at+".panels", panel.Panels)
	}
}

// settings checks `fieldConfig`. An override sets a default for some of the fields, so it is tried as a default of all.
func (c *check) settings(path string, panel panel) {
	c.decoded(path+".fieldConfig", panel.FieldConfig, new(dashboard.FieldConfigSource))
	var config struct {
		Defaults  map[string]any
		Overrides []dashboard.DashboardFieldConfigSourceOverrides
	}
	_ = json.Unmarshal(panel.FieldConfig, &config)
	for i, override := range config.Overrides {
		for j, property := range override.Properties {
			at := fmt.Sprintf("%s.fieldConfig.overrides[%d].properties[%d]", path, i, j)
			defaults := map[string]any{}
			maps.Copy(defaults, config.Defaults)
			if name, custom := strings.CutPrefix(property.Id, "custom."); custom {
				old, _ := defaults["custom"].(map[string]any)
				changed := map[string]any{}
				maps.Copy(changed, old)
				changed[name] = property.Value
				defaults["custom"] = changed
			} else {
				defaults[property.Id] = property.Value
			}
			tried, _ := json.Marshal(map[string]any{"defaults": defaults, "overrides": []any{}})
			c.decoded(at+".fieldConfig", tried, new(dashboard.FieldConfigSource))
			alone, _ := json.Marshal(map[string]any{"type": panel.Type, "fieldConfig": json.RawMessage(tried)})
			c.decoded(at, alone, new(dashboard.Panel))
		}
	}
}
