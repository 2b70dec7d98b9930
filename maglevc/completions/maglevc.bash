# shellcheck shell=bash
# Completion of maglevc's options, commands and live names in bash. maglevc itself knows what fits.

_maglevc() {
	local word glue='' cur lines line i
	local -a words=()

	# bash parts words at `:` and `=`, which addresses and names have within.
	for ((i = 1; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if ((${#words[@]})) && [[ $glue || $word == [:=]* ]]; then
			words[-1]+=$word
		else
			words+=("$word")
		fi
		[[ $word == *[:=] ]] && glue=yes || glue=
	done
	cur=${words[-1]}

	COMPREPLY=()
	mapfile -t lines < <("$1" __complete "${words[@]}" 2>/dev/null)
	if [[ ${lines[0]-} == :files ]]; then
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "${cur##*[:=]}")
		return
	fi
	for line in "${lines[@]}"; do
		line=${line%%$'\t'*}
		# What stands before the last of them is not bash's to replace.
		COMPREPLY+=("${line#"${cur%"${cur##*[:=]}"}"}")
	done
}

complete -F _maglevc maglevc
