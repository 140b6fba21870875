# The peer of a refresh: from the raw files to the shares of England and of each trust, as an analyst does it in R.
#
#     Rscript by_hand.R RAW_DIR SEEDS_DIR ESTIMATES.csv [PROCESSES]
#
# Reads each wave's files (haven, readr), applies the survey's exclusions and weights (dplyr) and estimates every
# question with its standard errors on a post-stratified design (survey). Columns, codes and rules come from the
# crosswalk. Shares and standard errors are percentages (0-100). It checks, records and publishes nothing.
suppressPackageStartupMessages({
  library(dplyr)
  library(haven)
  library(readr)
  library(survey)
})
options(survey.lonely.psu = "fail")
arguments <- commandArgs(trailingOnly = TRUE)
raw_dir <- arguments[1]
seeds_dir <- arguments[2]
processes <- if (length(arguments) > 3) as.integer(arguments[4]) else 1

read_text <- function(path, ...) {
  read_csv(path, col_types = cols(.default = "c"), na = character(), progress = FALSE, ...)
}
seed <- function(name) read_text(file.path(seeds_dir, paste0(name, ".csv")))
registry <- read_text(file.path(raw_dir, "registry.csv"))
waves <- seed("waves")
key_variables <- seed("key_variables")
key_codes <- seed("key_codes")
question_map <- seed("question_map")
response_map <- seed("response_map")
routing <- seed("routing")
age_bands <- seed("age_bands")
genders <- seed("genders") %>% arrange(as.integer(position)) %>% pull(gender)
# Neither is needed for these waves.
stopifnot(nrow(seed("corrections")) == 0, nrow(seed("merged_strata")) == 0)

read_wave_file <- function(file) {
  path <- file.path(raw_dir, file$path)
  data <- switch(file$format,
    sav = read_sav(path, user_na = TRUE),
    dta = read_dta(path),
    csv = read_text(path, locale = locale(encoding = file$encoding)),
    tab = read_tsv(path, col_types = cols(.default = "c"), na = character(), quote = "", progress = FALSE)
  )
  data <- zap_formats(zap_labels(data))
  names(data) <- tolower(names(data))
  data %>% mutate(across(everything(), function(x) coalesce(trimws(as.character(x)), "")))
}

# A key variable of a file by its codes, "" where it is missing; NULL where the file has none.
coded <- function(year, role, name, data) {
  map <- filter(key_variables, survey_year == year, file_role == role, variable == name)
  if (nrow(map) == 0) return(NULL)
  codes <- filter(key_codes, survey_year == year, file_role == role, variable == name)
  value <- codes$value[match(data[[tolower(map$raw_column)]], codes$code)]
  if_else(is.na(value) | value == "missing", "", value)
}

# Age band ("" where unknown), whether under the minimum age and whether known; NULL where the file has no such age.
ages <- function(year, role, name, data) {
  map <- filter(key_variables, survey_year == year, file_role == role, variable == name)
  if (nrow(map) == 0) return(NULL)
  if (map$measured_as == "code") {
    value <- coded(year, role, name, data)
    under <- value == "under_minimum"
    return(tibble(band = if_else(under, "", value), under = under, known = value != ""))
  }
  wave <- filter(waves, survey_year == year)
  missing <- filter(key_codes, survey_year == year, file_role == role, variable == name)$code
  text <- data[[tolower(map$raw_column)]]
  age <- suppressWarnings(as.numeric(if_else(text %in% missing, "", text)))
  if (map$measured_as == "birth_year") age <- as.numeric(wave$age_reference_year) - age
  plausible <- between(age, as.numeric(wave$plausible_age_from), as.numeric(wave$plausible_age_to))
  age <- if_else(plausible, age, NA_real_)
  bands <- filter(age_bands, survey_year == year) %>% arrange(as.integer(position))
  band <- bands$age_band[findInterval(age, as.numeric(bands$from_age))[seq_along(age)] %>% na_if(0)]
  under <- coalesce(age < as.numeric(wave$minimum_age), FALSE)
  tibble(band = if_else(under, "", coalesce(band, "")), under = under, known = !is.na(age))
}

cell_of <- function(gender, band) if_else(gender != "" & band != "", paste(gender, band, sep = ":"), "unknown")

# The weight cell of each known cell of one trust: cells without a respondent or without anybody drawn are merged with
# the next older one, else the next younger, of the same gender, and where there is none across genders.
merged_cells <- function(cells, bands, min_cell) {
  known <- filter(cells, cell != "unknown")
  at <- match(sub(".*:", "", known$cell), bands)
  gender <- sub(":.*", "", known$cell)
  groups <- lapply(seq_len(nrow(known)), function(i) {
    list(gender = gender[i], first = at[i], last = at[i], drawn = known$drawn[i], n = known$n[i], members = i)
  })
  fails <- function(g) g$n < min_cell || (g$drawn == 0 && g$n > 0)
  while (length(groups) > 1 && any(failing <- vapply(groups, fails, TRUE))) {
    of <- vapply(groups, `[[`, "", "gender")
    first <- vapply(groups, `[[`, 0, "first")
    last <- vapply(groups, `[[`, 0, "last")
    alone <- of %in% names(which(table(of) == 1))
    i <- which(failing)[order(alone[failing], first[failing], match(of, genders)[failing])[1]]
    same <- setdiff(which(of == of[i]), i)
    if (length(same) > 0) {
      older <- same[first[same] > first[i]]
      into <- if (length(older) > 0) older[which.min(first[older])] else same[which.max(first[same])]
      own <- c(i, into)
    } else {
      apart <- pmax(0, first[i] - last, first - last[i])
      hosts <- lapply(setdiff(genders, of[i]), function(other) which(of == other))
      hosts <- hosts[lengths(hosts) > 0]
      rank <- order(
        vapply(hosts, function(h) any(failing[h]), TRUE), vapply(hosts, function(h) min(apart[h]) > 0, TRUE)
      )[1]
      into <- hosts[[rank]][apart[hosts[[rank]]] == min(apart[hosts[[rank]]])]
      own <- into
    }
    joined <- c(i, into)
    groups <- c(groups[-joined], list(list(
      gender = of[into[1]], first = min(first[own]), last = max(last[own]),
      drawn = sum(vapply(groups[joined], `[[`, 0, "drawn")), n = sum(vapply(groups[joined], `[[`, 0, "n")),
      members = unlist(lapply(groups[joined], `[[`, "members"))
    )))
  }
  weight_cell <- rep("unknown", nrow(cells))
  for (g in groups) weight_cell[match(known$cell[g$members], cells$cell)] <- known$cell[g$members[1]]
  mutate(cells, weight_cell = weight_cell)
}

# Respondents that count with both weights, and the answers of each to every question, NA where it is not valid.
read_wave <- function(year) {
  wave <- filter(waves, survey_year == year)
  file <- function(of) filter(registry, wave == year, role == of)
  data <- read_wave_file(file("responses"))
  key <- function(name) tolower(filter(key_variables, survey_year == year, variable == name)$raw_column[1])
  map <- filter(question_map, survey_year == year)
  codes <- filter(response_map, survey_year == year)
  treatments <- lapply(map$question_id, function(question) {
    of <- filter(codes, question_id == question)
    code <- data[[tolower(map$raw_column[map$question_id == question])]]
    stopifnot(code %in% c("", of$code))
    at <- match(code, of$code)
    tibble(code, treatment = coalesce(of$treatment[at], "not_answered"), response = of$response[at])
  })
  names(treatments) <- map$question_id
  given <- lapply(treatments, function(t) t$treatment %in% c("answered", "dont_know", "not_applicable"))

  frame_age <- ages(year, "responses", "frame_age", data)
  own_age <- ages(year, "responses", "questionnaire_age", data)
  outcome <- coded(year, "responses", "outcome", data)
  persons <- tibble(
    trust = data[[key("trust")]], record = data[[key("record")]],
    cell = cell_of(coded(year, "responses", "frame_gender", data), frame_age$band),
    returned = if (is.null(outcome)) TRUE else outcome == "returned",
    frame_under = frame_age$under, under = frame_age$under | (own_age$known & own_age$under),
    answered = Reduce(`+`, given)
  ) %>%
    mutate(row = seq_len(n())) %>%
    arrange(desc(answered), row) %>%
    mutate(duplicate = record != "" & duplicated(data.frame(trust, record))) %>%
    arrange(row) %>%
    mutate(counts = !duplicate & returned & !under & answered >= as.integer(wave$min_answered))

  if (wave$sample_frame == "in_file") {
    drawn <- filter(persons, !frame_under, !duplicate) %>% count(trust, cell, name = "drawn")
  } else {
    sampled <- read_wave_file(file("sampled"))
    of_sample <- function(name) {
      sampled[[tolower(filter(key_variables, survey_year == year, file_role == "sampled", variable == name)$raw_column)]]
    }
    age <- ages(year, "sampled", "frame_age", sampled)
    drawn <- tibble(
      trust = of_sample("trust"), cell = cell_of(coded(year, "sampled", "frame_gender", sampled), age$band),
      persons = as.integer(of_sample("persons"))
    ) %>%
      filter(!age$under) %>%
      count(trust, cell, wt = persons, name = "drawn")
  }

  kept <- filter(persons, counts)
  bands <- filter(age_bands, survey_year == year) %>% arrange(as.integer(position)) %>% pull(age_band)
  trust_weights <- kept %>% count(trust, name = "n_trust") %>%
    mutate(trust_weight = (nrow(kept) / n_distinct(drawn$trust[drawn$drawn > 0])) / n_trust)
  cells <- full_join(drawn, count(kept, trust, cell), by = c("trust", "cell")) %>%
    mutate(drawn = as.numeric(coalesce(drawn, 0L)), n = as.numeric(coalesce(n, 0L))) %>%
    group_by(trust) %>%
    group_modify(function(of, ...) merged_cells(of, bands, as.integer(wave$min_cell))) %>%
    ungroup()
  # Persons of a cell have to stand for its share of the persons drawn; those of unknown cell for themselves.
  totals <- cells %>%
    inner_join(trust_weights, by = "trust") %>%
    group_by(trust, weight_cell) %>%
    summarise(drawn = sum(drawn), n = sum(n), trust_weight = first(trust_weight), .groups = "drop_last") %>%
    mutate(
      known = weight_cell != "unknown",
      Freq = trust_weight * if_else(known, drawn / sum(drawn[known]) * sum(n[known]), n)
    ) %>%
    ungroup() %>%
    filter(n > 0)
  respondents <- kept %>%
    left_join(trust_weights, by = "trust") %>%
    left_join(select(cells, trust, cell, weight_cell), by = c("trust", "cell")) %>%
    mutate(post_stratum = paste(trust, weight_cell))

  answers <- lapply(names(treatments), function(question) {
    of <- treatments[[question]]
    past <- rep(FALSE, nrow(of))
    filters <- filter(routing, survey_year == year, question_id == question)
    for (i in seq_len(nrow(filters))) {
      past <- past | treatments[[filters$filter_question_id[i]]]$code == filters$filter_code[i]
    }
    valid <- of$treatment == "answered" & !past
    offered <- unique(filter(codes, question_id == question, treatment == "answered")$response)
    factor(if_else(valid, of$response, NA_character_), offered)[persons$counts]
  })
  names(answers) <- names(treatments)
  design <- svydesign(ids = ~1, strata = ~trust, weights = ~trust_weight, data = respondents)
  totals <- transmute(totals, post_stratum = paste(trust, weight_cell), Freq)
  list(design = postStratify(design, ~post_stratum, totals), answers = answers)
}

estimate_wave <- function(year) {
  wave <- read_wave(year)
  bind_rows(lapply(names(wave$answers), function(question) {
    answer <- wave$answers[[question]]
    valid <- !is.na(answer)
    responses <- levels(answer)
    # A post-stratified design keeps those outside a subset with weight 0: any answer of theirs will do, but not NA.
    answer[!valid] <- responses[1]
    answered <- subset(update(wave$design, answer = answer), valid)
    england <- svymean(~answer, answered)
    trusts <- svyby(~answer, ~trust, answered, svymean)
    codes <- rep(trusts$trust, times = length(responses))
    tibble(
      survey_year = year, question_id = question,
      geography = c(rep("england", length(responses)), codes),
      response = c(responses, rep(responses, each = nrow(trusts))),
      pct = 100 * c(coef(england), coef(trusts)), se = 100 * c(SE(england), unlist(SE(trusts)))
    )
  }))
}

years <- unique(registry$wave)
estimates <- bind_rows(parallel::mclapply(years, estimate_wave, mc.cores = processes, mc.preschedule = FALSE))
write_csv(mutate(estimates, across(c(pct, se), function(x) sprintf("%.17g", x))), arguments[3])
