# Completion of maglevc's options, commands and live names in fish. maglevc itself knows what fits.

function __maglevc_candidates
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l candidates ($words[1] __complete $words[2..] "$current" 2>/dev/null)
    if test "$candidates[1]" = :files
        __fish_complete_path "$current"
    else
        printf '%s\n' $candidates
    end
end

complete --command maglevc --no-files --keep-order --arguments '(__maglevc_candidates)'
