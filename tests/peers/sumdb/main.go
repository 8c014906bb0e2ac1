// SPDX-License-Identifier: Apache-2.0

// sumdb checks an exported audit log with the library of Go's checksum database
// (golang.org/x/mod/sumdb), written by people who never saw this project.
//
//	sumdb DIR LOG-VKEY WITNESS-VKEY [PROOF]
//
// It opens every checkpoint (note), reads all records through tiles that the library
// authenticates itself (tlog.TileHashReader), proves each record and each earlier head,
// and checks a .tlog-proof with its .leaf. Exit code 0 if all holds; else 1 and why.
package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// cosigner verifies cosignature/v1 lines, which this version of note does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 72 {
		return false
	}
	head := fmt.Sprintf("cosignature/v1\ntime %d\n", binary.BigEndian.Uint64(sig))
	return ed25519.Verify(c.key, append([]byte(head), msg...), sig[8:])
}

func newCosigner(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("witness: not a vkey")
	}
	data, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(data) != 33 || data[0] != 4 {
		return nil, errors.New("witness: not a cosignature key")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), data...))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != parts[1] {
		return nil, errors.New("witness: key id differs")
	}
	return cosigner{parts[0], hash, data[1:]}, nil
}

// folder reads tiles as C2SP tlog-tiles lays them out.
type folder string

func (f folder) Height() int { return 8 }
func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range tiles {
		// Path says tile/8/L/NNN[.p/W]; C2SP leaves the height out.
		path := strings.Replace(t.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(f), path))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}
func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func parseHead(text, origin string) (tlog.Tree, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[0] != origin {
		return tlog.Tree{}, fmt.Errorf("head: origin %q", lines[0])
	}
	n, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: n, Hash: hash}, err
}

func openHead(msg []byte, log, witness note.Verifier) (tlog.Tree, error) {
	n, err := note.Open(msg, note.VerifierList(log, witness))
	if err != nil {
		return tlog.Tree{}, err
	}
	if len(n.Sigs) != 2 {
		return tlog.Tree{}, fmt.Errorf("head: %d known signatures, want 2", len(n.Sigs))
	}
	return parseHead(n.Text, log.Name())
}

func heads(dir string, log, witness note.Verifier) ([]tlog.Tree, error) {
	data, err := os.ReadFile(filepath.Join(dir, "checkpoints.txt"))
	if err != nil {
		return nil, err
	}
	var found []tlog.Tree
	parts := bytes.Split(data, []byte("\n\n"))
	for i := 0; i+1 < len(parts); i += 2 {
		msg := append(append(append([]byte{}, parts[i]...), "\n\n"...), parts[i+1]...)
		msg = append(bytes.TrimRight(msg, "\n"), '\n')
		tree, err := openHead(msg, log, witness)
		if err != nil {
			return nil, err
		}
		found = append(found, tree)
	}
	if len(found) == 0 {
		return nil, errors.New("no checkpoint")
	}
	return found, nil
}

func records(dir string, tree tlog.Tree, r tlog.HashReader) error {
	file, err := os.Open(filepath.Join(dir, "leaves-00000.jsonl"))
	if err != nil {
		return err
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	n := int64(0)
	for ; scanner.Scan(); n++ {
		proof, err := tlog.ProveRecord(tree.N, n, r)
		if err != nil {
			return err
		}
		hash := tlog.RecordHash(scanner.Bytes())
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, n, hash); err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
	}
	if n != tree.N {
		return fmt.Errorf("records: %d, want %d", n, tree.N)
	}
	return scanner.Err()
}

func proof(path string, log, witness note.Verifier) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	leaf, err := os.ReadFile(strings.TrimSuffix(path, ".tlog-proof") + ".leaf")
	if err != nil {
		return err
	}
	gap := bytes.Index(data, []byte("\n\n"))
	if gap < 0 {
		return errors.New("proof: no checkpoint")
	}
	tree, err := openHead(data[gap+2:], log, witness)
	if err != nil {
		return err
	}
	lines := strings.Split(string(data[:gap]), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("proof: head line")
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return err
	}
	var p tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		p = append(p, hash)
	}
	return tlog.CheckRecord(p, tree.N, tree.Hash, n, tlog.RecordHash(leaf))
}

func run(args []string) error {
	log, err := note.NewVerifier(args[1])
	if err != nil {
		return err
	}
	witness, err := newCosigner(args[2])
	if err != nil {
		return err
	}
	trees, err := heads(args[0], log, witness)
	if err != nil {
		return err
	}
	newest := trees[len(trees)-1]
	r := tlog.TileHashReader(newest, folder(args[0]))
	for _, old := range trees {
		p, err := tlog.ProveTree(newest.N, old.N, r)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(p, newest.N, newest.Hash, old.N, old.Hash); err != nil {
			return fmt.Errorf("head %d: %w", old.N, err)
		}
	}
	if err := records(args[0], newest, r); err != nil {
		return err
	}
	if len(args) > 3 {
		if err := proof(args[3], log, witness); err != nil {
			return fmt.Errorf("proof: %w", err)
		}
	}
	fmt.Printf("%d records, %d heads\n", newest.N, len(trees))
	return nil
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
