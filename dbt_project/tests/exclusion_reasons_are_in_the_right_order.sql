with

applied as (

    {% for status in [
        'not_asked', 'duplicate', 'not_returned', 'not_eligible', 'not_useable', 'routing_violation', 'not_routed',
        'multiple', 'out_of_range', 'not_answered', 'dont_know', 'not_applicable', 'answered'
    ] -%}
    select
        '{{ status }}' as status,
        {{ loop.index }} as position
    {{ 'union all' if not loop.last }}
    {% endfor %}

)

select
    coalesce(applied.status, reasons.status) as status,
    applied.position as applied_position,
    reasons.position as seed_position
from applied
full outer join {{ ref('exclusion_reasons') }} as reasons on applied.status = reasons.status
where applied.position is distinct from reasons.position
order by 1
